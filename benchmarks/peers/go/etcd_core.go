// Three nodes of etcd's Raft library in one process on one thread, no disk and no sockets: what its core alone can do.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"runtime"
	"sort"
	"time"

	"go.etcd.io/etcd/raft"
	pb "go.etcd.io/etcd/raft/raftpb"
)

const compactEvery = 1 << 15 // entries: keeps memory bounded, cheap enough not to show

type node struct {
	*raft.RawNode
	storage *raft.MemoryStorage
	applied uint64
	kept    uint64 // first index not yet compacted away
}

type cluster struct {
	nodes  map[uint64]*node
	encode bool // marshal and unmarshal every message, as a network would
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func newCluster(encode bool) *cluster {
	c := &cluster{map[uint64]*node{}, encode}
	quiet := &raft.DefaultLogger{Logger: log.New(io.Discard, "", 0)}
	members := pb.ConfState{Voters: []uint64{1, 2, 3}}
	for _, id := range members.Voters {
		storage := raft.NewMemoryStorage()
		check(storage.ApplySnapshot(pb.Snapshot{Metadata: pb.SnapshotMetadata{ConfState: members, Index: 1, Term: 1}}))
		raw, err := raft.NewRawNode(&raft.Config{ID: id, ElectionTick: 10, HeartbeatTick: 1, Storage: storage, Logger: quiet,
			Applied: 1, MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 256})
		check(err)
		c.nodes[id] = &node{raw, storage, 1, 1}
	}
	check(c.nodes[1].Campaign())
	c.settle()
	if c.nodes[1].Status().RaftState != raft.StateLeader {
		check(fmt.Errorf("node 1 was not elected"))
	}
	return c
}

// settle carries messages until nothing is left to do: every entry proposed before is then committed on all three.
func (c *cluster) settle() {
	for busy := true; busy; {
		busy = false
		for id := uint64(1); id <= 3; id++ {
			n := c.nodes[id]
			for n.HasReady() {
				busy = true
				c.handle(n)
			}
		}
	}
}

func (c *cluster) handle(n *node) {
	ready := n.Ready()
	check(n.storage.Append(ready.Entries))
	if !raft.IsEmptyHardState(ready.HardState) {
		check(n.storage.SetHardState(ready.HardState))
	}
	for _, message := range ready.Messages {
		if c.encode {
			data, err := message.Marshal()
			check(err)
			message = pb.Message{}
			check(message.Unmarshal(data))
		}
		check(c.nodes[message.To].Step(message))
	}
	if count := len(ready.CommittedEntries); count > 0 {
		n.applied = ready.CommittedEntries[count-1].Index
	}
	n.Advance(ready)
	if n.applied-n.kept > compactEvery {
		n.kept = n.applied - 1
		check(n.storage.Compact(n.kept))
	}
}

// run proposes calls of batch entries one after the other, each committed on all three before the next.
func run(name string, batch int, encode bool, duration time.Duration, size int) {
	c := newCluster(encode)
	payload := make([]byte, size)
	first := c.nodes[1].applied
	var rounds []time.Duration
	begin := time.Now()
	for time.Since(begin) < duration {
		start := time.Now()
		entries := make([]pb.Entry, batch)
		for i := range entries {
			entries[i].Data = payload
		}
		check(c.nodes[1].Step(pb.Message{Type: pb.MsgProp, From: 1, Entries: entries})) // Propose takes only one, and sends it at once
		c.settle()
		rounds = append(rounds, time.Since(start))
	}
	elapsed := time.Since(begin).Seconds()
	for id, n := range c.nodes {
		if n.applied-first != uint64(batch*len(rounds)) {
			check(fmt.Errorf("%s: node %d applied %d of %d entries", name, id, n.applied-first, batch*len(rounds)))
		}
	}
	sort.Slice(rounds, func(a, b int) bool { return rounds[a] < rounds[b] })
	check(json.NewEncoder(os.Stdout).Encode(map[string]interface{}{
		"name": name, "batch": batch, "encode": encode, "go": runtime.Version(), "rounds": len(rounds),
		"entries_per_second": float64(batch*len(rounds)) / elapsed, "p50": rounds[len(rounds)/2].Seconds(),
		"p99": rounds[len(rounds)*99/100].Seconds()}))
}

func main() {
	seconds := flag.Float64("seconds", 3, "duration of each of the four measurements")
	size := flag.Int("size", 256, "bytes of an entry")
	batch := flag.Int("batch", 256, "entries in one call")
	flag.Parse()
	runtime.GOMAXPROCS(1)
	duration := time.Duration(*seconds * float64(time.Second))
	run("one", 1, false, duration, *size)
	run("one", 1, true, duration, *size)
	run("batch", *batch, false, duration, *size)
	run("batch", *batch, true, duration, *size)
}
