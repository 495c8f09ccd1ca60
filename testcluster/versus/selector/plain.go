package main

import (
	"sync"
	"sync/atomic"
)

// floor is an index that its goroutine owns.
func floor(peers []string) bench {
	return bench{loop: func(n int) (length int) {
		i := 0
		for range n {
			if i++; i == len(peers) {
				i = 0
			}
			length += len(peers[i])
		}
		return length
	}}
}

// counter is an atomic counter over a snapshot.
type counter struct {
	turn  atomic.Uint64
	peers atomic.Pointer[[]string]
}

func (c *counter) set(peers []string) {
	own := append([]string(nil), peers...)
	c.peers.Store(&own)
}

func (c *counter) next() string {
	peers := *c.peers.Load()
	return peers[(c.turn.Add(1)-1)%uint64(len(peers))]
}

func (c *counter) bench() bench {
	return bench{loop: func(n int) (length int) {
		for range n {
			length += len(c.next())
		}
		return length
	}}
}

// locked is an index over a slice, under a mutex.
type locked struct {
	mu    sync.Mutex
	at    int
	peers []string
}

func (l *locked) set(peers []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.peers = append(l.peers[:0], peers...)
}

func (l *locked) next() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.at++; l.at >= len(l.peers) {
		l.at = 0
	}
	return l.peers[l.at]
}

func (l *locked) bench() bench {
	return bench{loop: func(n int) (length int) {
		for range n {
			length += len(l.next())
		}
		return length
	}}
}
