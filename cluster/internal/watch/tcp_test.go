package watch_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/peerhq/peer/cluster/internal/watch"
)

// onLoopback starts peers on the real network, each with a port of its own.
func onLoopback(t testing.TB, ids ...uint64) []*peer {
	t.Helper()
	var out []*peer
	for _, id := range ids {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		p := &peer{id: id, addr: l.Addr().(*net.TCPAddr).AddrPort()}
		p.run(t, l, func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", to.String())
		})
		out = append(out, p)
	}
	return out
}

// waitFor waits until p has had an event of this kind, and returns it.
func (p *peer) waitFor(t testing.TB, kind watch.Kind) watch.Event {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		p.mu.Lock()
		i := slices.IndexFunc(p.events, func(e watch.Event) bool { return e.Kind == kind })
		if i >= 0 {
			e := p.events[i]
			p.events = p.events[i+1:]
			p.mu.Unlock()
			return e
		}
		p.mu.Unlock()
	}
	t.Fatalf("peer %d: no event %q within 10 s", p.id, kind)
	return watch.Event{}
}

// echoed waits until no beat is pending. It allocates nothing, dst given.
func (p *peer) echoed(dst []watch.Link) []watch.Link {
	for {
		dst = p.Links(dst[:0])
		if !slices.ContainsFunc(dst, func(l watch.Link) bool { return l.Pending != 0 }) {
			return dst
		}
		time.Sleep(10 * time.Microsecond) // lets the network be polled on one CPU, too
	}
}

func TestLoopback(t *testing.T) {
	ps := onLoopback(t, 1, 2)
	a, b := ps[0], ps[1]
	a.Dial(2, b.addr, true)
	a.waitFor(t, watch.Answered)
	a.Dial(2, b.addr, false)
	if e := a.waitFor(t, watch.Up); !e.Out {
		t.Errorf("dialler: %v", e)
	}
	if e := b.waitFor(t, watch.Up); e.Out || e.Peer != 1 {
		t.Errorf("acceptor: %v", e)
	}
	for range 100 {
		a.Beat()
		a.echoed(nil)
	}
	b.Close()
	if e := a.waitFor(t, watch.Broke); e.Err == nil {
		t.Errorf("broke: %v", e)
	}
	if n := a.Strangers() + b.Strangers(); n != 0 {
		t.Errorf("%d strangers", n)
	}
}

func TestLoopbackRefuses(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	to := l.Addr().(*net.TCPAddr).AddrPort()
	l.Close()
	a := onLoopback(t, 1)[0]
	a.Dial(2, to, false)
	if e := a.waitFor(t, watch.Refused); !errors.Is(e.Err, syscall.ECONNREFUSED) {
		t.Errorf("refused because of %v", e.Err)
	}
}

func TestLoopbackLeave(t *testing.T) {
	ps := onLoopback(t, 1, 2)
	a, b := ps[0], ps[1]
	a.Dial(2, b.addr, false)
	b.waitFor(t, watch.Up)
	a.Leave()
	a.Close()
	if e := b.waitFor(t, watch.Left); e.Peer != 1 {
		t.Errorf("left: %v", e)
	}
}

// A beat, its reading, the echo and its reading allocate nothing.
func TestBeatAllocatesNothing(t *testing.T) {
	ps := onLoopback(t, 1, 2)
	a, b := ps[0], ps[1]
	a.Dial(2, b.addr, false)
	a.waitFor(t, watch.Up)
	b.waitFor(t, watch.Up)
	dst := make([]watch.Link, 0, 4)
	round := func() {
		a.Beat()
		a.echoed(dst)
	}
	for range 10 {
		round()
	}
	if n := testing.AllocsPerRun(500, round); n != 0 {
		t.Errorf("a beat and its echo allocate %v times, want 0", n)
	}
}

// BenchmarkBeat is a beat and its echo over loopback, both ends counted.
func BenchmarkBeat(b *testing.B) {
	ps := onLoopback(b, 1, 2)
	ps[0].Dial(2, ps[1].addr, false)
	ps[0].waitFor(b, watch.Up)
	dst := make([]watch.Link, 0, 4)
	b.ReportAllocs()
	for b.Loop() {
		ps[0].Beat()
		ps[0].echoed(dst)
	}
}

// BenchmarkHandshake is a dial with its handshake over loopback, both ends
// counted.
func BenchmarkHandshake(b *testing.B) {
	ps := onLoopback(b, 1, 2)
	b.ReportAllocs()
	for b.Loop() {
		ps[0].Dial(2, ps[1].addr, true)
		for done := false; !done; time.Sleep(10 * time.Microsecond) {
			ps[0].mu.Lock()
			done = len(ps[0].events) > 0
			ps[0].events = ps[0].events[:0]
			ps[0].mu.Unlock()
		}
	}
}
