package testcluster

import (
	"net"
	"sync"
	"testing"
	"time"
)

// proxy is a TCP proxy on loopback that can stall, reset, refuse and delay.
// Goroutines: one that accepts, and four for each stream; close waits for all.
type proxy struct {
	t    testing.TB
	addr string
	dial func() (net.Conn, error)
	wg   sync.WaitGroup

	mu      sync.Mutex // guards all below
	l       net.Listener
	conns   map[net.Conn]bool
	stalled bool
	delay   time.Duration // each way
	changed chan struct{} // closed and replaced when any of these changes
	closed  bool
}

func newProxy(t testing.TB, dial func() (net.Conn, error)) *proxy {
	t.Helper()
	p := &proxy{t: t, dial: dial, conns: map[net.Conn]bool{}, changed: make(chan struct{})}
	p.addr = "127.0.0.1:" + FreePort() // which it has to get again after a cut
	l, err := p.listen()
	if err != nil {
		t.Fatal(err)
	}
	p.serve(l)
	return p
}

func (p *proxy) listen() (net.Listener, error) {
	return OnFreedPort(func() (net.Listener, error) { return net.Listen("tcp", p.addr) })
}

func (p *proxy) serve(l net.Listener) {
	p.l = l
	p.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.pass(c) })
		}
	})
}

// pass joins one client to the server until either goes.
func (p *proxy) pass(client net.Conn) {
	server, err := p.dial()
	if err != nil {
		abort(client)
		return
	}
	p.mu.Lock()
	if p.l == nil { // cut while it dialled
		p.mu.Unlock()
		abort(client)
		server.Close()
		return
	}
	p.conns[client] = true
	p.mu.Unlock()

	done := make(chan struct{})
	end := sync.OnceFunc(func() {
		close(done)
		client.Close()
		server.Close()
	})
	var wg sync.WaitGroup
	for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
		wg.Go(func() {
			defer end()
			p.carry(way[0], way[1], done)
		})
	}
	wg.Wait()
	p.mu.Lock()
	delete(p.conns, client)
	p.mu.Unlock()
}

// carry takes bytes one way, each with its own delay.
func (p *proxy) carry(from, to net.Conn, done <-chan struct{}) {
	type chunk struct {
		data []byte
		due  time.Time
	}
	chunks := make(chan chunk, 64)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		defer close(chunks)
		for {
			b := make([]byte, 16<<10)
			n, err := from.Read(b)
			if err != nil {
				return
			}
			p.mu.Lock()
			due := time.Now().Add(p.delay)
			p.mu.Unlock()
			select {
			case chunks <- chunk{b[:n], due}:
			case <-done:
				return
			}
		}
	})
	defer from.Close()
	for c := range chunks {
		if !p.wait(c.due, done) {
			return
		}
		if _, err := to.Write(c.data); err != nil {
			return
		}
	}
}

// wait returns when it is due and nothing is stalled, false when done.
func (p *proxy) wait(due time.Time, done <-chan struct{}) bool {
	select {
	case <-time.After(time.Until(due)):
	case <-done:
		return false
	}
	for {
		p.mu.Lock()
		stalled, changed := p.stalled, p.changed
		p.mu.Unlock()
		if !stalled {
			return true
		}
		select {
		case <-changed:
		case <-done:
			return false
		}
	}
}

// change runs f and wakes all that wait.
func (p *proxy) change(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *proxy) stall()               { p.change(func() { p.stalled = true }) }
func (p *proxy) slow(d time.Duration) { p.change(func() { p.delay = d / 2 }) }

func (p *proxy) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		abort(c)
	}
}

func (p *proxy) cut() {
	p.mu.Lock()
	if p.l != nil {
		p.l.Close()
		p.l = nil
	}
	p.mu.Unlock()
	p.reset()
}

func (p *proxy) heal() {
	p.t.Helper()
	p.change(func() {
		p.stalled, p.delay = false, 0
		if p.l != nil || p.closed {
			return
		}
		l, err := p.listen()
		if err != nil {
			p.t.Errorf("listen again in front of redis: %v", err)
			return
		}
		p.serve(l)
	})
}

func (p *proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cut()
	p.wg.Wait()
}

// abort closes a stream with RST.
func abort(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		t.SetLinger(0)
	}
	c.Close()
}
