//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"
)

// proxy stands before a server: it delays, or holds all bytes back, as a cut
// cable does, without ending a stream.
//
// Goroutines: one that accepts, and four for each stream; close waits for all.
type proxy struct {
	addr   string
	to     string
	delay  time.Duration // each way
	l      net.Listener
	wg     sync.WaitGroup
	ctx    context.Context // ends with the proxy
	cancel context.CancelFunc
	cut    chan struct{} // closed by stall
	stall  func()
}

func startProxy(to string, rtt time.Duration) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start proxy: %w", err)
	}
	p := &proxy{addr: l.Addr().String(), to: to, delay: rtt / 2, l: l, cut: make(chan struct{})}
	p.stall = sync.OnceFunc(func() { close(p.cut) })
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.join(c) })
		}
	})
	return p, nil
}

func (p *proxy) close() {
	p.cancel()
	p.l.Close()
	p.wg.Wait()
}

// join carries bytes between a client and the server until one of them ends.
func (p *proxy) join(c net.Conn) {
	defer c.Close()
	s, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer s.Close()
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		c.Close()
		s.Close()
	})()
	var wg sync.WaitGroup
	wg.Go(func() { defer cancel(); p.carry(ctx, c, s) })
	wg.Go(func() { defer cancel(); p.carry(ctx, s, c) })
	wg.Wait()
}

type parcel struct {
	data []byte
	due  time.Time
}

func (p *proxy) carry(ctx context.Context, from, to net.Conn) {
	parcels := make(chan parcel, 256)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(parcels)
		for {
			b := make([]byte, 16<<10)
			n, err := from.Read(b)
			if err != nil {
				return
			}
			select {
			case parcels <- parcel{b[:n], time.Now().Add(p.delay)}:
			case <-ctx.Done():
				return
			}
		}
	})
	defer wg.Wait()
	defer from.Close()
	for b := range parcels {
		if wait := time.Until(b.due); wait > 0 {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return
			}
		}
		select {
		case <-p.cut:
			<-ctx.Done()
			return
		default:
		}
		if _, err := to.Write(b.data); err != nil {
			return
		}
	}
}
