// One load generator for every server that has a Go client: built once with etcd.go and once with zookeeper.go, each of
// which provides open(). It prints "ready" when its connections stand, begins at a line on its input, and prints one line of
// JSON; the caller reads the servers' CPU clocks at those three moments.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand"
	"os"
	"sort"
	"strings"
	"sync"
	"time"
)

// store is one connection to one server.
type store interface {
	put(ctx context.Context, key string, value []byte) error
	get(ctx context.Context, key string) error
	close()
}

type result struct {
	Ops     int     `json:"ops"`
	Seconds float64 `json:"seconds"`
	P50     float64 `json:"p50"` // seconds
	P99     float64 `json:"p99"` // seconds
	Errors  int     `json:"errors"`
	Error   string  `json:"error"` // the first one
}

const (
	requestTimeout = 20 * time.Second
	probeInterval  = 10 * time.Millisecond
	errorPause     = 10 * time.Millisecond
	startAllowance = 60 * time.Second
)

var (
	endpoints = flag.String("endpoints", "", "HOST:PORT of the servers, separated by commas; clients are spread over them")
	op        = flag.String("op", "put", "put, get, fill (put every key once) or probe (time to the first acknowledged put)")
	clients   = flag.Int("clients", 1, "clients, each with one request under way")
	conns     = flag.Int("connections", 0, "connections the clients share; 0: one for each client")
	seconds   = flag.Float64("seconds", 3, "duration of the load; of a probe, when to give up")
	size      = flag.Int("size", 256, "bytes of a value")
	keys      = flag.Int("keys", 1000, "number of keys, one chosen at random for each request")
	lazy      = flag.Bool("lazy", false, "probe: be ready before the servers are")
)

func main() {
	flag.Parse()
	duration := time.Duration(*seconds * float64(time.Second))
	time.AfterFunc(duration+startAllowance, func() { fail(fmt.Errorf("not done after %v", duration+startAllowance)) })
	stores := connect(strings.Split(*endpoints, ","))
	fmt.Println("ready")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		fail(err)
	}
	var out result
	if *op == "probe" {
		out = probe(stores, duration)
	} else {
		out = load(stores, duration)
	}
	line, err := json.Marshal(out)
	if err != nil {
		fail(err)
	}
	fmt.Println(string(line))
	var closed sync.WaitGroup // explicitly: a session left to expire would be the servers' work during the next measurement
	for _, s := range stores {
		closed.Add(1)
		go func(s store) { defer closed.Done(); s.close() }(s)
	}
	closed.Wait()
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func connect(servers []string) []store {
	count := *clients
	if *conns > 0 && *conns < count {
		count = *conns
	}
	if *op == "probe" {
		count = len(servers)
	}
	stores := make([]store, count)
	var opened sync.WaitGroup
	for i := range stores {
		opened.Add(1)
		go func(i int) {
			defer opened.Done()
			s, err := open(servers[i%len(servers)])
			if err == nil && !*lazy {
				ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
				defer cancel()
				err = s.get(ctx, "connected")
			}
			if err != nil {
				fail(err)
			}
			stores[i] = s
		}(i)
	}
	opened.Wait()
	return stores
}

func keyName(n int) string { return fmt.Sprintf("key:%012d", n) }

// load keeps one request of every client under way until the time is up, or until every key is written once.
func load(stores []store, duration time.Duration) result {
	value := make([]byte, *size)
	latencies := make([][]time.Duration, *clients)
	errs := make([][]error, *clients)
	begin := time.Now()
	var done sync.WaitGroup
	for i := range latencies {
		done.Add(1)
		go func(i int, s store) {
			defer done.Done()
			random := rand.New(rand.NewSource(int64(i)))
			for n := i; ; n += *clients {
				if *op == "fill" && n >= *keys || *op != "fill" && time.Since(begin) >= duration {
					return
				}
				key := n
				if *op != "fill" {
					key = random.Intn(*keys)
				}
				start := time.Now()
				if err := request(s, keyName(key), value); err != nil {
					errs[i] = append(errs[i], err)
					time.Sleep(errorPause)
					continue
				}
				latencies[i] = append(latencies[i], time.Since(start))
			}
		}(i, stores[i%len(stores)])
	}
	done.Wait()
	return summary(latencies, errs, time.Since(begin))
}

func request(s store, key string, value []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	if *op == "get" {
		return s.get(ctx, key)
	}
	return s.put(ctx, key, value)
}

func summary(latencies [][]time.Duration, errs [][]error, elapsed time.Duration) result {
	var all []time.Duration
	out := result{Seconds: elapsed.Seconds()}
	for i := range latencies {
		all = append(all, latencies[i]...)
		out.Errors += len(errs[i])
		if len(errs[i]) > 0 && out.Error == "" {
			out.Error = errs[i][0].Error()
		}
	}
	sort.Slice(all, func(a, b int) bool { return all[a] < all[b] })
	out.Ops = len(all)
	if len(all) > 0 {
		out.P50 = all[len(all)/2].Seconds()
		out.P99 = all[len(all)*99/100].Seconds()
	}
	return out
}

// probe starts a put on every server each probeInterval, whatever became of the earlier ones, until one is acknowledged:
// a put that was handed to a dead leader may hang for seconds and must not hide that the cluster works again.
func probe(stores []store, duration time.Duration) result {
	value := make([]byte, *size)
	acknowledged := make(chan time.Duration, 1)
	begin := time.Now()
	ticker := time.NewTicker(probeInterval)
	defer ticker.Stop()
	giveUp := time.After(duration)
	for {
		for _, s := range stores {
			go func(s store) {
				ctx, cancel := context.WithTimeout(context.Background(), duration)
				defer cancel()
				if s.put(ctx, keyName(0), value) == nil {
					select {
					case acknowledged <- time.Since(begin):
					default:
					}
				}
			}(s)
		}
		select {
		case took := <-acknowledged:
			return result{Ops: 1, Seconds: took.Seconds()}
		case <-giveUp:
			return result{Errors: 1, Error: fmt.Sprintf("no put acknowledged within %v", duration)}
		case <-ticker.C:
		}
	}
}
