package watch_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerhq/peer/cluster/internal/watch"
	"github.com/peerhq/peer/testcluster"
)

const port = 7946

// world is a network with a latency of 1 ms, in virtual time. At its end every
// goroutine has ended, or the bubble says which has not.
type world struct {
	*testing.T
	net *testcluster.Net
}

func inWorld(t *testing.T, f func(w *world)) {
	t.Helper()
	testcluster.Bubble(t, func(t *testing.T) {
		f(&world{t, testcluster.NewNet(1, testcluster.Link{Latency: time.Millisecond})})
	})
}

// peer is a Watcher that accepts at an address. Its ID is the last number of
// that address.
type peer struct {
	*watch.Watcher
	id   uint64
	addr netip.AddrPort
	host *testcluster.Host

	stall chan struct{} // events wait for it

	mu     sync.Mutex
	events []watch.Event
}

func (w *world) peer(id uint64, edit ...func(*watch.Config)) *peer {
	w.Helper()
	p := &peer{id: id, host: w.net.Host(fmt.Sprintf("10.0.0.%d", id))}
	p.addr = netip.AddrPortFrom(p.host.Addr(), port)
	l, err := p.host.Listen(p.addr)
	if err != nil {
		w.Fatal(err)
	}
	p.run(w.T, l, p.host.Dial, edit...)
	return p
}

// run starts p behind l until the end of the test.
func (p *peer) run(t testing.TB, l net.Listener, dial func(context.Context, netip.AddrPort) (net.Conn, error), edit ...func(*watch.Config)) {
	cfg := watch.Config{
		Self:  p.id,
		Label: "test",
		Keys:  func() [][]byte { return [][]byte{[]byte("key")} },
		Dial:  dial,
		Know:  func(uint64) bool { return true },
		On:    p.on,
	}
	for _, e := range edit {
		e(&cfg)
	}
	p.Watcher = watch.New(cfg)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				var first [1]byte
				if _, err := conn.Read(first[:]); err != nil || first[0] != watch.Magic {
					conn.Close()
					return
				}
				p.Accept(conn)
			})
		}
	})
	t.Cleanup(func() {
		p.Close()
		l.Close()
		wg.Wait()
	})
}

func (p *peer) on(e watch.Event) {
	if p.stall != nil {
		<-p.stall
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events = append(p.events, e)
}

// news returns the events since the last call, such as "2 up out, 2 broke out".
func (p *peer) news() string {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for _, e := range p.events {
		s := fmt.Sprint(e.Peer, " ", e.Kind)
		switch {
		case e.Kind == watch.Refused, e.Kind == watch.Failed, e.Kind == watch.Answered, e.Kind == watch.Left:
		case e.Out:
			s += " out"
		default:
			s += " in"
		}
		out = append(out, s)
	}
	p.events = nil
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// lastErr is that of the last event.
func (p *peer) lastErr() error {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.events) == 0 {
		return nil
	}
	return p.events[len(p.events)-1].Err
}

// streams returns the streams that stand, such as "2 out in".
func (p *peer) streams() string {
	synctest.Wait()
	var out []string
	for _, l := range p.Links(nil) {
		s := fmt.Sprint(l.Peer)
		if l.Out {
			s += " out"
		}
		if l.In {
			s += " in"
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}

// link returns the first Link, a zero one if there is none.
func (p *peer) link() watch.Link {
	return append(p.Links(nil), watch.Link{})[0]
}

// beat lets ps beat every 750 ms for so long.
func beat(d time.Duration, ps ...*peer) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(750 * time.Millisecond) {
		for _, p := range ps {
			p.Beat()
		}
	}
}

func (w *world) want(what, got, want string) {
	w.Helper()
	if got != want {
		w.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// pair starts two peers, the first with a stream to the second.
func (w *world) pair(edit ...func(*watch.Config)) (a, b *peer) {
	w.Helper()
	a, b = w.peer(1, edit...), w.peer(2, edit...)
	a.Dial(2, b.addr, false)
	time.Sleep(100 * time.Millisecond)
	w.want("dialler", a.news(), "2 up out")
	w.want("acceptor", b.news(), "1 up in")
	return a, b
}

func TestBeatsAreHeardOnBothEnds(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.pair()
		beat(time.Minute, a, b)
		w.want("dialler", a.news(), "")
		w.want("acceptor", b.news(), "")
		w.want("dialler's streams", a.streams(), "2 out")
		w.want("acceptor's streams", b.streams(), "1 in")
		for _, p := range []*peer{a, b} {
			l := p.link()
			if quiet := time.Since(l.Heard); quiet > 750*time.Millisecond || l.Pending != 0 {
				w.Errorf("peer %d: silent for %v, pending %v", p.id, quiet, l.Pending)
			}
		}
		if n := a.Strangers() + b.Strangers(); n != 0 {
			w.Errorf("%d strangers among friends", n)
		}
	})
}

func TestPendingAndHeardAfterAnOutage(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.pair()
		beat(3*time.Second, a)
		a.Beat()
		if l := a.link(); l.Pending == 0 {
			w.Error("nothing pending before the echo can be here")
		}
		time.Sleep(100 * time.Millisecond)
		w.net.Isolate(b.host)
		beat(2*time.Second, a)
		l := a.link()
		if l.Pending < 2*time.Second || l.Pending > 2500*time.Millisecond {
			w.Errorf("pending %v after an outage of 2.25 s", l.Pending)
		}
		w.want("during the outage", a.news(), "")
		w.net.Heal()
		time.Sleep(2 * time.Second) // retransmission
		w.want("dialler, healed", a.news(), "2 heard out")
		w.want("acceptor, healed", b.news(), "1 heard in")
		if l := a.link(); l.Pending != 0 {
			w.Errorf("pending %v after all echoes", l.Pending)
		}
	})
}

func TestBrokeThenRefused(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.pair()
		b.host.Crash()
		time.Sleep(10 * time.Millisecond)
		w.want("after the crash", a.news(), "2 broke out")
		w.want("streams", a.streams(), "")
		a.Dial(2, b.addr, true)
		time.Sleep(10 * time.Millisecond)
		if err := a.lastErr(); !errors.Is(err, syscall.ECONNREFUSED) {
			w.Errorf("refused because of %v", err)
		}
		w.want("after the probe", a.news(), "2 refused")
	})
}

func TestAnotherInstanceAnswers(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.peer(1), w.peer(2)
		for _, probe := range []bool{false, true} {
			a.Dial(9, b.addr, probe)
			time.Sleep(100 * time.Millisecond)
			if err := a.lastErr(); !errors.Is(err, watch.ErrInstance) {
				w.Errorf("refused because of %v", err)
			}
			w.want("dialler", a.news(), "9 refused")
			w.want("who answered", b.news(), "")
		}
		if n := b.Strangers(); n != 0 {
			w.Errorf("%d strangers", n)
		}
	})
}

func TestProbe(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.peer(1), w.peer(2)
		a.Dial(2, b.addr, true)
		time.Sleep(100 * time.Millisecond)
		w.want("who asks", a.news(), "2 answered")
		w.want("who is asked", b.news(), "")
		w.want("streams", a.streams()+b.streams(), "")
		if n := a.host.Streams() + b.host.Streams(); n != 0 {
			w.Errorf("%d connections stay after a probe", n)
		}
	})
}

func TestGoodbyeIsNoBreak(t *testing.T) {
	for _, tt := range []struct {
		name       string
		hang       func(a *peer)
		mine, peer string
	}{
		{"both ways", func(a *peer) { a.Hang(2, watch.Goodbye) }, "", ""},
		{"outbound only", func(a *peer) { a.HangOut(2) }, "2 in", "1 out"},
	} {
		inWorld(t, func(w *world) {
			a, b := w.pair()
			b.Dial(1, a.addr, false)
			time.Sleep(100 * time.Millisecond)
			w.want("acceptor dials back", b.news(), "1 up out")
			w.want("dialler", a.news(), "2 up in")
			tt.hang(a)
			time.Sleep(100 * time.Millisecond)
			w.want(tt.name+": who hangs up", a.news(), "")
			w.want(tt.name+": the other", b.news(), "")
			w.want(tt.name+": streams", a.streams(), tt.mine)
			w.want(tt.name+": the other's streams", b.streams(), tt.peer)
		})
	}
}

func TestLeaveIsHeardOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.pair()
		b.Dial(1, a.addr, false)
		time.Sleep(100 * time.Millisecond)
		w.want("streams", b.streams(), "1 out in")
		b.news()
		a.Leave()
		a.Close() // at once: the word is out
		time.Sleep(100 * time.Millisecond)
		w.want("the other", b.news(), "1 left")
		w.want("the other's streams", b.streams(), "")
	})
}

// The last word is out when Leave returns, whatever happens then; Close lets one
// that Hang began be written.
func TestLastWordIsOut(t *testing.T) {
	for name, end := range map[string]func(a *peer){
		"Leave, then a crash": func(a *peer) { a.Leave(); a.host.Crash() },
		"Hang, then Close":    func(a *peer) { a.Hang(2, watch.Leaving); a.Close() },
	} {
		inWorld(t, func(w *world) {
			a, b := w.pair()
			end(a)
			time.Sleep(100 * time.Millisecond)
			w.want(name, b.news(), "1 left")
		})
	}
}

func TestWhoeverDialsALeaverIsTold(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.peer(1), w.peer(2)
		b.Leave()
		b.Dial(1, a.addr, false)
		a.Dial(2, b.addr, false)
		time.Sleep(100 * time.Millisecond)
		w.want("dialler", a.news(), "2 left, 2 up out")
		w.want("leaver", b.news(), "")
	})
}

func TestNewerStreamReplacesOlder(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.pair()
		for range 3 {
			a.Dial(2, b.addr, false)
			time.Sleep(100 * time.Millisecond)
			w.want("dialler", a.news(), "2 up out")
			w.want("acceptor", b.news(), "1 up in")
		}
		beat(3*time.Second, a)
		w.want("dialler's streams", a.streams(), "2 out")
		w.want("acceptor's streams", b.streams(), "1 in")
		w.want("later", a.news()+b.news(), "")
		if n := a.host.Streams(); n != 1 {
			w.Errorf("%d connections stand, want 1", n)
		}
	})
}

func TestUnknownPeerWaitsForItsAnnouncement(t *testing.T) {
	for _, tt := range []struct {
		after            time.Duration
		acceptor, stream string
	}{
		{500 * time.Millisecond, "1 up in", "2 out"},
		{time.Hour, "", ""},
	} {
		inWorld(t, func(w *world) {
			known := time.Now().Add(tt.after)
			a := w.peer(1)
			b := w.peer(2, func(c *watch.Config) { c.Know = func(uint64) bool { return time.Now().After(known) } })
			a.Dial(2, b.addr, false)
			time.Sleep(400 * time.Millisecond)
			w.want("before", b.news(), "")
			time.Sleep(time.Second)
			w.want("acceptor", b.news(), tt.acceptor)
			w.want("dialler", a.news(), "2 up out")
			w.want("dialler's streams", a.streams(), tt.stream)
		})
	}
}

func TestVersions(t *testing.T) {
	for _, tt := range []struct {
		a, b  [2]byte
		watch string
	}{
		{[2]byte{2, 2}, [2]byte{2, 2}, "2 up out"},
		{[2]byte{2, 3}, [2]byte{3, 4}, "2 up out"},
		{[2]byte{3, 4}, [2]byte{2, 3}, "2 up out"},
		{[2]byte{2, 2}, [2]byte{3, 4}, "2 failed"},
		{[2]byte{5, 6}, [2]byte{3, 4}, "2 failed"},
	} {
		inWorld(t, func(w *world) {
			a := w.peer(1, func(c *watch.Config) { c.Versions = tt.a })
			b := w.peer(2, func(c *watch.Config) { c.Versions = tt.b })
			a.Dial(2, b.addr, false)
			time.Sleep(100 * time.Millisecond)
			if err := a.lastErr(); tt.watch == "2 failed" {
				ranges := fmt.Sprintf("speaks %d to %d, the other %d to %d", tt.a[0], tt.a[1], tt.b[0], tt.b[1])
				if !errors.Is(err, watch.ErrVersion) || !strings.Contains(err.Error(), ranges) {
					w.Errorf("%v and %v: %v", tt.a, tt.b, err)
				}
			}
			w.want(fmt.Sprint(tt.a, tt.b), a.news(), tt.watch)
			a.Dial(2, b.addr, true)
			time.Sleep(100 * time.Millisecond)
			w.want("a probe needs no version in common", a.news(), "2 answered")
			if n := a.Strangers() + b.Strangers(); n != 0 {
				w.Errorf("%d strangers", n)
			}
		})
	}
}

func TestKeys(t *testing.T) {
	keys := func(s string) func(*watch.Config) {
		return func(c *watch.Config) {
			c.Label, s, _ = strings.Cut(s, ":")
			c.Keys = func() (out [][]byte) {
				for k := range strings.FieldsSeq(s) {
					out = append(out, []byte(k))
				}
				return out
			}
		}
	}
	for _, tt := range []struct {
		a, b string
		ok   bool
	}{
		{"l:one", "l:one", true},
		{"l:two one", "l:one two", true}, // a rotation
		{"l:two one", "l:one", false},
		{"l:one", "l:two", false},
		{"l:", "l:", true},
		{"l:", "l:one", false},
		{"l:one", "l:", false},
		{"l:one", "m:one", false},
		{"l:", "m:", false},
	} {
		inWorld(t, func(w *world) {
			a, b := w.peer(1, keys(tt.a)), w.peer(2, keys(tt.b))
			a.Dial(2, b.addr, false)
			time.Sleep(2 * time.Second)
			if tt.ok {
				w.want(tt.a+" to "+tt.b, a.news()+", "+b.news(), "2 up out, 1 up in")
				return
			}
			w.want(tt.a+" to "+tt.b, a.news()+b.news(), "2 failed")
			if b.Strangers() == 0 {
				w.Errorf("%s to %s: no stranger counted", tt.a, tt.b)
			}
			if n := b.host.Counters().StreamBytes; n != 0 {
				w.Errorf("%s to %s: the stranger was told %d bytes", tt.a, tt.b, n)
			}
		})
	}
}

// The first dials that end in a reset are repeated, a time-out is not.
func TestDialTries(t *testing.T) {
	reset := &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNRESET}
	for _, tt := range []struct {
		name  string
		err   func(try int64) error
		tries int64
		want  string
	}{
		{"reset, then refused", func(n int64) error {
			if n <= 3 {
				return reset
			}
			return &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
		}, 4, "2 refused"},
		{"reset for ever", func(int64) error { return reset }, 11, "2 failed"},
		{"time-out", func(int64) error { return context.DeadlineExceeded }, 1, "2 failed"},
	} {
		inWorld(t, func(w *world) {
			var tries atomic.Int64
			a := w.peer(1, func(c *watch.Config) {
				c.Dial = func(context.Context, netip.AddrPort) (net.Conn, error) { return nil, tt.err(tries.Add(1)) }
			})
			a.Dial(2, a.addr, false)
			time.Sleep(time.Second)
			w.want(tt.name, a.news(), tt.want)
			if n := tries.Load(); n != tt.tries {
				w.Errorf("%s: %d tries, want %d", tt.name, n, tt.tries)
			}
		})
	}
}

// silent is a network on which nobody answers. It counts the dials.
func silent(dials *atomic.Int64) func(*watch.Config) {
	return func(c *watch.Config) {
		c.Dial = func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
			dials.Add(1)
			<-ctx.Done()
			return nil, ctx.Err()
		}
	}
}

func TestDialsBesideOneAnother(t *testing.T) {
	inWorld(t, func(w *world) {
		var dials atomic.Int64
		a := w.peer(1, silent(&dials))
		for _, step := range []struct {
			name  string
			wait  time.Duration
			probe bool
			want  int64
		}{
			{"first", 0, true, 1},
			{"probe beside a probe", 0, true, 1},
			{"stream beside a probe", 0, false, 2},
			{"stream beside a stream", 200 * time.Millisecond, false, 2},
			{"probe beside a stream", 0, true, 2},
			{"stream beside a stale one", 100 * time.Millisecond, false, 3},
		} {
			time.Sleep(step.wait)
			a.Dial(2, a.addr, step.probe)
			synctest.Wait()
			if n := dials.Load(); n != step.want {
				w.Errorf("%s: %d dials, want %d", step.name, n, step.want)
			}
		}
		time.Sleep(2 * time.Second)
		w.want("each has its outcome", a.news(), "2 failed, 2 failed, 2 failed")
	})
}

func TestHangGivesUpDials(t *testing.T) {
	for _, tt := range []struct {
		name string
		hang func(*peer)
		want string
	}{
		{"Hang", func(a *peer) { a.Hang(2, watch.Goodbye) }, ""},
		{"HangOut", func(a *peer) { a.HangOut(2) }, "2 failed"}, // the probe
		{"Leave", (*peer).Leave, ""},
	} {
		inWorld(t, func(w *world) {
			var dials atomic.Int64
			a := w.peer(1, silent(&dials))
			a.Dial(2, a.addr, true)
			a.Dial(2, a.addr, false)
			time.Sleep(10 * time.Millisecond)
			tt.hang(a)
			time.Sleep(3 * time.Second)
			w.want(tt.name, a.news(), tt.want)
		})
	}
}

// However late in its handshake a dial is given up, no stream stands at the end
// and neither side calls it a break.
func TestHangInTheHandshake(t *testing.T) {
	for at := range 8 {
		inWorld(t, func(w *world) {
			a, b := w.peer(1), w.peer(2)
			a.Dial(2, b.addr, false)
			time.Sleep(time.Duration(at)*time.Millisecond + 500*time.Microsecond)
			a.Hang(2, watch.Goodbye)
			time.Sleep(3 * time.Second)
			w.want(fmt.Sprint("streams at ", at), a.streams()+b.streams(), "")
			if n := a.news() + b.news(); strings.Contains(n, "broke") || strings.Contains(n, "failed") {
				w.Errorf("given up at %d ms: %s", at, n)
			}
		})
	}
}

// A handshake that nobody answers ends at once when it is given up.
func TestHangClosesTheConnection(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.peer(1)
		mute := w.net.Host("10.0.0.9")
		to := netip.AddrPortFrom(mute.Addr(), port)
		l, err := mute.Listen(to)
		if err != nil {
			w.Fatal(err)
		}
		defer l.Close()
		a.Dial(2, to, false)
		time.Sleep(100 * time.Millisecond)
		before := a.host.Streams()
		a.Hang(2, watch.Goodbye)
		time.Sleep(10 * time.Millisecond)
		if after := a.host.Streams(); before != 1 || after != 0 {
			w.Errorf("%d connections before, %d after; want 1, 0", before, after)
		}
		w.want("dialler", a.news(), "")
	})
}

// atConfirm calls f just before the dialler confirms.
type atConfirm struct {
	net.Conn
	f      func()
	writes int
}

func (c *atConfirm) Write(b []byte) (int, error) {
	if c.writes++; c.writes == 2 {
		c.f()
	}
	return c.Conn.Write(b)
}

// A dial that is given up when the acceptor is about to keep its stream ends in
// a goodbye.
func TestHangAtTheConfirm(t *testing.T) {
	inWorld(t, func(w *world) {
		var a *peer
		a = w.peer(1, wrapped(func(c net.Conn) net.Conn {
			return &atConfirm{Conn: c, f: func() { a.Hang(2, watch.Goodbye) }}
		}))
		b := w.peer(2)
		a.Dial(2, b.addr, false)
		time.Sleep(100 * time.Millisecond)
		w.want("dialler", a.news(), "")
		w.want("acceptor", b.news(), "1 up in")
		w.want("streams", a.streams()+b.streams(), "")
	})
}

// Close ends whatever is under way; the bubble tells of goroutines that stay.
func TestCloseEndsEverything(t *testing.T) {
	inWorld(t, func(w *world) {
		var dials atomic.Int64
		a, b := w.pair()
		c := w.peer(3, silent(&dials), func(c *watch.Config) { c.Know = func(uint64) bool { return false } })
		c.Dial(1, a.addr, false)
		a.Dial(3, c.addr, false) // waits for Know
		mute, err := w.net.Host("10.0.0.9").Dial(w.Context(), c.addr)
		if err != nil {
			w.Fatal(err)
		}
		defer mute.Close()
		_, _ = mute.Write([]byte{watch.Magic, 2})
		time.Sleep(10 * time.Millisecond)
		a.news()
		start := time.Now()
		for _, p := range []*peer{c, b, a} {
			p.Close()
			p.Close()
			p.Beat()
			p.Dial(2, b.addr, false)
			p.Hang(2, watch.Leaving)
			p.Leave()
		}
		if took := time.Since(start); took > 50*time.Millisecond {
			w.Errorf("Close took %v", took)
		}
		w.want("who closes says nothing", c.news()+b.news(), "")
	})
}
