package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"net"
	"strings"
	"sync"
)

var useTLS = flag.Bool("tls", false, "speak TLS; the certificate is not checked, since only the servers' work is measured")

// respStore is one connection that carries one request at a time, as redis-benchmark's do. It is dialled when needed.
type respStore struct {
	endpoint string
	mutex    sync.Mutex
	conn     net.Conn
	reader   *bufio.Reader
}

func open(endpoint string) (store, error) { return &respStore{endpoint: endpoint}, nil }

func (s *respStore) put(ctx context.Context, key string, value []byte) error {
	command := fmt.Sprintf("*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", len(key), key, len(value), value)
	if *op == "probe" { // an earlier put may hang: it must not hold up this one
		alone := &respStore{endpoint: s.endpoint}
		defer alone.close()
		return alone.ask(ctx, command, "+OK")
	}
	return s.ask(ctx, command, "+OK")
}

func (s *respStore) get(ctx context.Context, key string) error {
	return s.ask(ctx, fmt.Sprintf("*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n", len(key), key), "$")
}

func (s *respStore) close() {
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
}

// ask counts an answer only if it begins as it should.
func (s *respStore) ask(ctx context.Context, command, wanted string) error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	err := s.exchange(ctx, command, wanted)
	if err != nil {
		s.close()
	}
	return err
}

func (s *respStore) exchange(ctx context.Context, command, wanted string) error {
	if s.conn == nil {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.endpoint)
		if err != nil {
			return err
		}
		if *useTLS {
			conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		}
		s.conn, s.reader = conn, bufio.NewReader(conn)
	}
	if deadline, ok := ctx.Deadline(); ok {
		s.conn.SetDeadline(deadline)
	}
	if _, err := s.conn.Write([]byte(command)); err != nil {
		return err
	}
	line, err := s.reader.ReadString('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(line, wanted) {
		return errors.New(strings.TrimSpace(line))
	}
	if line[0] == '$' && line != "$-1\r\n" {
		var size int
		if _, err := fmt.Sscanf(line, "$%d", &size); err != nil {
			return err
		}
		_, err = s.reader.Discard(size + 2)
	}
	return err
}
