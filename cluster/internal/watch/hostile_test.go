package watch_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerhq/peer/cluster/internal/watch"
)

// tape is a network that writes down what passes, both ways.
type tape struct {
	mu        sync.Mutex
	said, got bytes.Buffer
}

type tapedConn struct {
	net.Conn
	*tape
}

func (c tapedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.said.Write(b[:n])
	return n, err
}

func (c tapedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got.Write(b[:n])
	return n, err
}

// wrapped puts conns of dials into a wrapper.
func wrapped(wrap func(net.Conn) net.Conn) func(*watch.Config) {
	return func(c *watch.Config) {
		dial := c.Dial
		c.Dial = func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
			conn, err := dial(ctx, to)
			if err != nil {
				return nil, err
			}
			return wrap(conn), nil
		}
	}
}

// A stranger replays, byte for byte, a stream that ended in a leave.
func TestReplayMovesNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		rec := new(tape)
		a := w.peer(1, wrapped(func(c net.Conn) net.Conn { return tapedConn{c, rec} }))
		b := w.peer(2)
		a.Dial(2, b.addr, false)
		beat(3*time.Second, a)
		a.Hang(2, watch.Leaving)
		time.Sleep(100 * time.Millisecond)
		w.want("recorded", b.news(), "1 left, 1 up in")
		a.Dial(2, b.addr, false)
		beat(3*time.Second, a)
		w.want("stands again", b.news(), "1 up in")
		a.news()

		mallory := w.net.Host("10.0.0.66")
		for cut := range 3 { // the whole, without the leave, the hello alone
			said := rec.said.Bytes()[:54+16+4*9+9]
			said = said[:len(said)-[]int{0, 9, len(said) - 54}[cut]]
			conn, err := mallory.Dial(w.Context(), b.addr)
			if err != nil {
				w.Fatal(err)
			}
			_, _ = conn.Write(said)
			beat(4*time.Second, a)
			conn.Close()
			w.want("who is replayed to", b.news(), "")
			w.want("who is replayed", a.news(), "")
			w.want("streams", b.streams(), "1 in")
		}
		if n := b.Strangers(); n != 2 { // the hello alone timed out
			w.Errorf("%d strangers, want 2", n)
		}
	})
}

// A stranger at the address of a dead peer replays what that one once answered.
func TestReplayedReply(t *testing.T) {
	inWorld(t, func(w *world) {
		rec := new(tape)
		a := w.peer(1, wrapped(func(c net.Conn) net.Conn { return tapedConn{c, rec} }))
		b := w.peer(2)
		a.Dial(2, b.addr, true)
		time.Sleep(100 * time.Millisecond)
		w.want("recorded", a.news(), "2 answered")
		mallory := netip.AddrPortFrom(netip.MustParseAddr("10.0.0.66"), port)
		l, err := w.net.Host("10.0.0.66").Listen(mallory)
		if err != nil {
			w.Fatal(err)
		}
		defer l.Close()
		answer := bytes.Clone(rec.got.Bytes())
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = conn.Write(answer)
				_, _ = io.Copy(io.Discard, conn)
				conn.Close()
			}
		}()
		for _, probe := range []bool{true, false} {
			a.Dial(2, mallory, probe)
			time.Sleep(100 * time.Millisecond)
			if err := a.lastErr(); !errors.Is(err, watch.ErrStranger) {
				w.Errorf("failed because of %v", err)
			}
			w.want("dialler", a.news(), "2 failed")
		}
	})
}

// flip changes one byte of what is written after the handshake.
type flip struct {
	net.Conn
	at int // of the bytes written
	n  int
}

func (f *flip) Write(b []byte) (int, error) {
	b = bytes.Clone(b)
	if i := f.at - f.n; i >= 0 && i < len(b) {
		b[i] ^= 'b' ^ 'L' // makes a beat a leave
	}
	f.n += len(b)
	return f.Conn.Write(b)
}

// Somebody on the path changes a frame: the stream ends, and that is all.
func TestForgedFrameIsNoEvidence(t *testing.T) {
	for _, at := range []int{0, 5, 8} {
		inWorld(t, func(w *world) {
			a := w.peer(1, wrapped(func(c net.Conn) net.Conn { return &flip{Conn: c, at: 54 + 16 + 9 + at} }))
			b := w.peer(2)
			a.Dial(2, b.addr, false)
			beat(3*time.Second, a)
			w.want("who gets it", b.news(), "1 up in")
			w.want("its streams", b.streams(), "")
			w.want("who is forged", a.news(), "2 broke out, 2 up out") // it sees the end only
			if n := b.Strangers(); n != 1 {
				w.Errorf("%d strangers, want 1", n)
			}
		})
	}
}

// narrow takes few bytes of each write while it is on, as a full buffer does.
type narrow struct {
	net.Conn
	mu   sync.Mutex
	take int // -1: all
}

func (c *narrow) set(take int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.take = take
}

func (c *narrow) Write(b []byte) (int, error) {
	c.mu.Lock()
	take := c.take
	c.mu.Unlock()
	if take < 0 || take >= len(b) {
		return c.Conn.Write(b)
	}
	n, err := c.Conn.Write(b[:take])
	if err == nil {
		err = os.ErrDeadlineExceeded
	}
	return n, err
}

// A frame that could be written only in part is written to its end later.
func TestHalfWrittenFrames(t *testing.T) {
	inWorld(t, func(w *world) {
		var thin *narrow
		a := w.peer(1, wrapped(func(c net.Conn) net.Conn {
			thin = &narrow{Conn: c, take: -1}
			return thin
		}))
		b := w.peer(2)
		a.Dial(2, b.addr, false)
		beat(2*time.Second, a)
		thin.set(4)
		beat(5*time.Second, a)
		thin.set(-1)
		beat(2*time.Second, a)
		w.want("dialler's streams", a.streams(), "2 out")
		if l := a.link(); l.Pending != 0 || b.Strangers() != 0 {
			w.Errorf("pending %v, %d strangers", l.Pending, b.Strangers())
		}
	})
}

// pipes joins two peers by net.Pipe, which holds nothing: a peer that does not
// read holds up every write.
func pipes(t *testing.T, on func(watch.Event)) (a, b *peer) {
	a, b = &peer{id: 1}, &peer{id: 2}
	b.Watcher = watch.New(watch.Config{Self: 2, Know: func(uint64) bool { return true }, On: on})
	var wg sync.WaitGroup
	a.Watcher = watch.New(watch.Config{Self: 1, On: a.on, Dial: func(context.Context, netip.AddrPort) (net.Conn, error) {
		mine, its := net.Pipe()
		wg.Go(func() {
			_, _ = io.ReadFull(its, make([]byte, 1))
			b.Accept(its)
		})
		return mine, nil
	}})
	t.Cleanup(func() {
		a.Close()
		b.Close()
		wg.Wait()
	})
	return a, b
}

func TestStalledPeerHoldsNobodyUp(t *testing.T) {
	inWorld(t, func(w *world) {
		stall := make(chan struct{})
		a, _ := pipes(w.T, func(watch.Event) { <-stall }) // it does not read
		a.Dial(2, netip.AddrPort{}, false)
		time.Sleep(100 * time.Millisecond)
		w.want("dialler", a.news(), "2 up out")
		for n := range 30 {
			start := time.Now()
			a.Beat()
			took := time.Since(start)
			if took > 20*time.Millisecond {
				w.Errorf("beat %d took %v", n, took)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if l := a.link(); l.Pending < 3*time.Second {
			w.Errorf("pending %v", l.Pending)
		}
		w.want("stalled", a.news(), "")
		start := time.Now()
		a.Leave()
		if took := time.Since(start); took > 20*time.Millisecond {
			w.Errorf("Leave took %v", took)
		}
		close(stall)
		synctest.Wait()
	})
}

func TestStalledPeerComesBack(t *testing.T) {
	inWorld(t, func(w *world) {
		stall := make(chan struct{})
		a, b := pipes(w.T, func(watch.Event) { <-stall })
		a.Dial(2, netip.AddrPort{}, false)
		beat(30*time.Second, a) // more than 16 beats: no more are added, what is unsent still goes out
		close(stall)
		synctest.Wait()
		w.want("dialler", a.news(), "2 up out")
		beat(2*time.Second, a)
		w.want("back", a.news(), "2 heard out")
		w.want("streams", a.streams(), "2 out")
		if l := a.link(); l.Pending != 0 || b.Strangers() != 0 {
			w.Errorf("pending %v, %d strangers", l.Pending, b.Strangers())
		}
	})
}

// Echoes that could not be written go out with the acceptor's own beat: the
// dialler has 16 beats without an echo by then and writes none to ask for them.
func TestUnsentEchoesGoOut(t *testing.T) {
	inWorld(t, func(w *world) {
		stall := make(chan struct{})
		a, b := pipes(w.T, func(watch.Event) {})
		a.stall = stall
		a.Dial(2, netip.AddrPort{}, false)
		beat(30*time.Second, a)
		close(stall)
		synctest.Wait()
		beat(2*time.Second, a, b)
		w.want("dialler", a.news(), "2 heard out, 2 up out")
		if l := a.link(); l.Pending != 0 || a.Strangers() != 0 {
			w.Errorf("pending %v, %d strangers", l.Pending, a.Strangers())
		}
	})
}

// A stranger that says half a hello is hung up on before long.
func TestMuteStranger(t *testing.T) {
	inWorld(t, func(w *world) {
		b := w.peer(2)
		for _, said := range []string{"\xe7", "\xe7\x02\x02\x00\x21half"} {
			conn, err := w.net.Host("10.0.0.66").Dial(w.Context(), b.addr)
			if err != nil {
				w.Fatal(err)
			}
			defer conn.Close()
			_, _ = conn.Write([]byte(said))
			_ = conn.SetReadDeadline(time.Now().Add(2 * time.Second))
			if n, err := conn.Read(make([]byte, 1)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
				w.Errorf("after %q: %d bytes, %v; want the end", said, n, err)
			}
		}
	})
}
