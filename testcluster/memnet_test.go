package testcluster_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/nettest"

	"github.com/peerhq/peer/testcluster"
)

const ms = time.Millisecond

// two returns two hosts joined by link.
func two(link testcluster.Link) (n *testcluster.Net, a, b *testcluster.Host) {
	n = testcluster.NewNet(1, link)
	return n, n.Host("10.0.0.1"), n.Host("10.0.0.2")
}

func at(h *testcluster.Host, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(h.Addr(), port)
}

func listen(t testing.TB, h *testcluster.Host) net.Listener {
	t.Helper()
	l, err := h.Listen(at(h, 0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func addrOf(l net.Listener) netip.AddrPort { return l.Addr().(*net.TCPAddr).AddrPort() }

// connect returns both ends of a stream from a to b.
func connect(t testing.TB, a, b *testcluster.Host) (client, server net.Conn) {
	t.Helper()
	l := listen(t, b)
	defer l.Close()
	client, err := a.Dial(t.Context(), addrOf(l))
	if err != nil {
		t.Fatal(err)
	}
	server, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

func packets(t testing.TB, h *testcluster.Host, port uint16) net.PacketConn {
	t.Helper()
	p, err := h.ListenPacket(at(h, port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func send(t testing.TB, p net.PacketConn, to net.PacketConn, what string) {
	t.Helper()
	if _, err := p.WriteTo([]byte(what), to.LocalAddr()); err != nil {
		t.Fatal(err)
	}
}

// received reads datagrams until none comes for wait.
func received(p net.PacketConn, wait time.Duration) []string {
	var out []string
	b := make([]byte, 2048)
	for {
		p.SetReadDeadline(time.Now().Add(wait))
		n, _, err := p.ReadFrom(b)
		if err != nil {
			return out
		}
		out = append(out, string(b[:n]))
	}
}

func write(t testing.TB, c net.Conn, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatalf("write %q: %v", s, err)
	}
}

// want reads exactly s from c.
func want(t testing.TB, c net.Conn, s string) {
	t.Helper()
	b := make([]byte, len(s))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != s {
		t.Fatalf("read: got %q, %v, want %q", b, err, s)
	}
}

// took checks that exactly d has passed since start.
func took(t testing.TB, start time.Time, d time.Duration) {
	t.Helper()
	if got := time.Since(start); got != d {
		t.Errorf("took %v, want %v", got, d)
	}
}

func TestConnConformance(t *testing.T) {
	// In real time: these tests use wall-clock races on purpose.
	for _, link := range []testcluster.Link{{}, {Latency: 100 * time.Microsecond, Jitter: 100 * time.Microsecond}} {
		t.Run(fmt.Sprint(link.Latency), func(t *testing.T) {
			_, a, b := two(link)
			nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
				c, s := connect(t, a, b)
				return c, s, func() { c.Close(); s.Close() }, nil
			})
		})
	}
}

func TestDatagramLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := two(testcluster.Link{Latency: 3 * ms})
		from, to := packets(t, a, 7), packets(t, b, 7)
		start := time.Now()
		send(t, from, to, "one")
		buf := make([]byte, 2)
		n, addr, err := to.ReadFrom(buf)
		if err != nil || string(buf[:n]) != "on" || addr.String() != "10.0.0.1:7" {
			t.Errorf("got %q from %v, %v", buf[:n], addr, err)
		}
		took(t, start, 3*ms)
		if _, ok := addr.(*net.UDPAddr); !ok {
			t.Errorf("the sender is a %T", addr)
		}
	})
}

func TestDatagramJitterAndLossFollowTheSeed(t *testing.T) {
	run := func(seed uint64, noise bool) (got []string) {
		synctest.Test(t, func(t *testing.T) {
			n := testcluster.NewNet(seed, testcluster.Link{Loss: 0.3, Latency: ms, Jitter: 2 * ms})
			a, b, c := n.Host("10.0.0.1"), n.Host("10.0.0.2"), n.Host("10.0.0.3")
			from, to, other := packets(t, a, 7), packets(t, b, 7), packets(t, c, 7)
			for i := range 1000 {
				send(t, from, to, fmt.Sprint(i))
				if noise {
					send(t, other, from, "noise")
					send(t, from, other, "noise")
				}
				time.Sleep(5 * ms)
			}
			got = received(to, time.Second)
		})
		return got
	}
	first := run(1, false)
	if n := len(first); n < 640 || n > 760 {
		t.Errorf("with 30 %% loss %d of 1000 arrived", n)
	}
	if !slices.Equal(first, run(1, true)) {
		t.Error("what others send changes what this pair loses")
	}
	if slices.Equal(first, run(2, false)) {
		t.Error("another seed loses the same packets")
	}
}

func TestDatagramQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := two(testcluster.Link{})
		from, to := packets(t, a, 7), packets(t, b, 7)
		big := strings.Repeat("x", 64<<10-100)
		for range 100 {
			send(t, from, to, big)
		}
		if n := len(received(to, time.Second)); n != 32 {
			t.Errorf("an unread socket kept %d datagrams of 64 KiB, want 32", n)
		}
		if _, err := from.WriteTo(make([]byte, 65508), to.LocalAddr()); !errors.Is(err, syscall.EMSGSIZE) {
			t.Errorf("65508 bytes: %v", err)
		}
	})
}

func TestAddresses(t *testing.T) {
	_, a, b := two(testcluster.Link{})
	l := listen(t, a)
	if addrOf(l).Port() == 0 {
		t.Error("port 0 was not replaced")
	}
	for _, tt := range []struct {
		addr netip.AddrPort
		want error
	}{
		{addrOf(l), syscall.EADDRINUSE},
		{netip.AddrPortFrom(netip.IPv4Unspecified(), addrOf(l).Port()), syscall.EADDRINUSE},
		{netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), addrOf(l).Port()), nil},
		{at(b, 1), syscall.EADDRNOTAVAIL},
	} {
		got, err := a.Listen(tt.addr)
		if !errors.Is(err, tt.want) {
			t.Errorf("listen %v: got %v, want %v", tt.addr, err, tt.want)
		}
		if err == nil {
			got.Close()
		}
	}
	l.Close()
	again, err := a.Listen(addrOf(l))
	if err != nil {
		t.Fatalf("listen again: %v", err)
	}
	again.Close()
	if _, err := again.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept on a closed listener: %v", err)
	}
}

func TestLoopbackBelongsToTheHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := two(testcluster.Link{Latency: time.Second})
		l, err := a.ListenContext(t.Context(), "tcp", "127.0.0.1:80")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		n.Isolate(a)
		start := time.Now()
		c, err := a.DialContext(t.Context(), "tcp", "localhost:80")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		took(t, start, 0)
		if _, err := b.DialContext(t.Context(), "tcp", "127.0.0.1:80"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("another host's loopback: %v", err)
		}
		if _, err := a.DialContext(t.Context(), "tcp", "example.org:80"); err == nil {
			t.Error("dialled a name")
		}
	})
}

func TestStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := two(testcluster.Link{Latency: 2 * ms, Jitter: ms})
		client, server := connect(t, a, b)
		go func() {
			for i := range 10000 {
				fmt.Fprintf(client, "%06d\n", i)
			}
			client.(interface{ CloseWrite() error }).CloseWrite()
		}()
		got, err := io.ReadAll(server)
		if err != nil || len(got) != 70000 || !strings.HasSuffix(string(got), "009999\n") {
			t.Fatalf("read %d bytes, %v", len(got), err)
		}
		write(t, server, "half-closed only")
		server.Close()
		if got, err := io.ReadAll(client); string(got) != "half-closed only" || err != nil {
			t.Errorf("after CloseWrite: %q, %v", got, err)
		}
		if _, err := client.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("write after CloseWrite: %v", err)
		}
	})
}

func TestDial(t *testing.T) {
	const latency = 5 * ms
	tests := []struct {
		name  string
		fault func(n *testcluster.Net, a, b *testcluster.Host)
		want  error
		took  time.Duration
	}{
		{"healthy", func(n *testcluster.Net, a, b *testcluster.Host) {}, nil, 2 * latency},
		{"firewall", func(n *testcluster.Net, a, b *testcluster.Host) {
			n.SetLink(a, b, testcluster.Link{Refuse: true, Latency: latency})
		}, syscall.ECONNREFUSED, latency},
		{"crashed", func(n *testcluster.Net, a, b *testcluster.Host) { b.Crash() }, syscall.ECONNREFUSED, 2 * latency},
		{"powered off", func(n *testcluster.Net, a, b *testcluster.Host) { b.PowerOff() }, context.DeadlineExceeded, 20 * time.Second},
		{"cut", func(n *testcluster.Net, a, b *testcluster.Host) { n.Isolate(b) }, context.DeadlineExceeded, 20 * time.Second},
		{"answer cut", func(n *testcluster.Net, a, b *testcluster.Host) {
			n.CutOneWay([]*testcluster.Host{b}, []*testcluster.Host{a})
		}, context.DeadlineExceeded, 20 * time.Second},
		{"stopped", func(n *testcluster.Net, a, b *testcluster.Host) { b.Pause() }, nil, 2 * latency},
		{"healed after 500 ms", func(n *testcluster.Net, a, b *testcluster.Host) {
			n.Isolate(b)
			time.AfterFunc(500*ms, n.Heal)
		}, nil, time.Second + 2*latency},
		{"healed after 5 s", func(n *testcluster.Net, a, b *testcluster.Host) {
			n.Isolate(b)
			time.AfterFunc(5*time.Second, n.Heal)
		}, nil, 7*time.Second + 2*latency},
		{"dialler dead", func(n *testcluster.Net, a, b *testcluster.Host) { a.Crash() }, net.ErrClosed, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, a, b := two(testcluster.Link{Latency: latency})
				l := listen(t, b)
				addr := addrOf(l)
				tt.fault(n, a, b)
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				start := time.Now()
				c, err := a.Dial(ctx, addr)
				if !errors.Is(err, tt.want) {
					t.Errorf("got %v, want %v", err, tt.want)
				}
				took(t, start, tt.took)
				var op *net.OpError
				if err != nil && !errors.As(err, &op) {
					t.Errorf("%T is no *net.OpError", err)
				}
				if tt.want == context.DeadlineExceeded && (op == nil || !op.Timeout()) {
					t.Errorf("%v is no time-out", err)
				}
				if c != nil {
					c.Close()
				}
			})
		})
	}

	t.Run("nobody answers", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n, a, b := two(testcluster.Link{})
			n.Isolate(b)
			start := time.Now()
			_, err := a.Dial(t.Context(), at(b, 1))
			if !errors.Is(err, syscall.ETIMEDOUT) {
				t.Errorf("got %v, want ETIMEDOUT", err)
			}
			took(t, start, 127*time.Second)
		})
	})
}

func TestCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := two(testcluster.Link{Latency: 3 * ms})
		read, readB := connect(t, a, b)
		unread, _ := connect(t, a, b)
		l := listen(t, b)
		addr := addrOf(l)

		write(t, readB, "last words")
		write(t, unread, "never read")
		time.Sleep(10 * ms)
		start := time.Now()
		b.Crash()
		if _, err := readB.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a dead process read: %v", err)
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a dead process accepted: %v", err)
		}
		if _, err := b.Listen(at(b, 0)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a dead process listened: %v", err)
		}
		want(t, read, "last words")
		if _, err := read.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("peer read: %v, want EOF", err)
		}
		took(t, start, 3*ms)
		if _, err := unread.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("peer of a stream with unread bytes: %v, want ECONNRESET", err)
		}
		took(t, start, 3*ms)

		// Bytes to the dead are answered with RST.
		write(t, read, "anybody?")
		time.Sleep(10 * ms)
		if _, err := read.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("second write to the dead: %v, want ECONNRESET", err)
		}

		b.Restart()
		l2, err := b.Listen(addr)
		if err != nil {
			t.Fatalf("listen after restart: %v", err)
		}
		defer l2.Close()
		c, err := a.Dial(t.Context(), addr)
		if err != nil {
			t.Fatalf("dial after restart: %v", err)
		}
		c.Close()
	})
}

func TestPowerOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := two(testcluster.Link{Latency: 3 * ms})
		c, _ := connect(t, a, b)
		b.PowerOff()
		write(t, c, "hello?")
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read from a dark host: %v, want a time-out", err)
		}
		c.SetReadDeadline(time.Time{})

		// Rebooted, its kernel knows nothing of the stream. Tries were made
		// after 0.2, 0.6, 1.4, 3, 6.2 s; the next is at 12.6 s.
		b.Restart()
		start := time.Now()
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read after the reboot: %v, want ECONNRESET", err)
		}
		took(t, start, 2600*ms+6*ms)
	})
}

func TestStreamAcrossACut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := two(testcluster.Link{Latency: 3 * ms})
		c, s := connect(t, a, b)
		n.Cut([]*testcluster.Host{a}, []*testcluster.Host{b})
		start := time.Now()
		write(t, c, "first ")
		write(t, c, "second")
		time.AfterFunc(2*time.Second, n.Heal)
		want(t, s, "first second")
		took(t, start, 3*time.Second+3*ms) // tries at 0.2, 0.6, 1.4, 3 s

		n.Isolate(b)
		start = time.Now()
		write(t, c, "lost")
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ETIMEDOUT) {
			t.Errorf("after all retries: %v, want ETIMEDOUT", err)
		}
		if got := time.Since(start); got < 13*time.Minute || got > 16*time.Minute {
			t.Errorf("gave up after %v, Linux does after 15 min", got)
		}
	})
}

func TestStreamLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := two(testcluster.Link{Latency: ms, Loss: 0.3})
		l := listen(t, b)
		c, err := a.Dial(t.Context(), addrOf(l))
		if err != nil {
			t.Fatal(err)
		}
		s, _ := l.Accept()
		defer c.Close()
		defer s.Close()
		start := time.Now()
		for i := range 100 {
			text := fmt.Sprintf("%04d", i)
			write(t, c, text)
			want(t, s, text)
		}
		// Each segment waits 200 ms · (0.3 + 2·0.09 + 4·0.027 + …) = 150 ms on average.
		if got := time.Since(start); got < 5*time.Second || got > 40*time.Second {
			t.Errorf("100 segments at 30 %% loss took %v", got)
		}
	})
}

func TestRefuseCutsStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := two(testcluster.Link{})
		c, s := connect(t, a, b)
		n.SetLink(a, b, testcluster.Link{Refuse: true})
		c.Write([]byte("x"))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("sender: %v, want ECONNRESET", err)
		}
		write(t, s, "are you there?")
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Logf("receiver: %v", err)
		}
		from, to := packets(t, a, 7), packets(t, b, 7)
		send(t, from, to, "datagrams pass")
		if len(received(to, time.Second)) != 1 {
			t.Error("a datagram did not pass a firewall that refuses streams")
		}
		n.SetLink(a, b, testcluster.Link{BlockUDP: true})
		send(t, from, to, "blocked")
		if len(received(to, time.Second)) != 0 {
			t.Error("a datagram passed BlockUDP")
		}
		c2, _ := connect(t, a, b)
		write(t, c2, "streams pass")
	})
}

func TestResetStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := two(testcluster.Link{Latency: ms})
		c, s := connect(t, a, b)
		if a.Streams() != 1 || b.Streams() != 1 {
			t.Errorf("streams: %d and %d, want 1 and 1", a.Streams(), b.Streams())
		}
		a.ResetStreams()
		for _, end := range []net.Conn{c, s} {
			if _, err := end.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("got %v, want ECONNRESET", err)
			}
		}
		if a.Streams() != 0 || b.Streams() != 0 {
			t.Errorf("streams: %d and %d, want none", a.Streams(), b.Streams())
		}
	})
}

func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := two(testcluster.Link{Latency: ms})
		pa, pb := packets(t, a, 7), packets(t, b, 7)
		client, server := connect(t, a, b)
		l := listen(t, b)

		b.Pause()
		start := time.Now()
		type result struct {
			what string
			at   time.Duration
		}
		var mu sync.Mutex
		var got []result
		note := func(what string, err error) {
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				what += ": " + err.Error()
			}
			got = append(got, result{what, time.Since(start)})
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			server.SetReadDeadline(time.Now().Add(3 * time.Second)) // passes while it is stopped
			b := make([]byte, 5)
			_, err := io.ReadFull(server, b)
			note("stream "+string(b), err)
		})
		wg.Go(func() {
			b := make([]byte, 5)
			n, _, err := pb.ReadFrom(b)
			note("packet "+string(b[:n]), err)
		})
		wg.Go(func() {
			c, err := l.Accept()
			note("accepted", err)
			c.Close()
		})
		wg.Go(func() {
			_, err := pb.WriteTo([]byte("out"), pa.LocalAddr())
			note("sent", err)
		})
		wg.Go(func() {
			_, err := b.Dial(t.Context(), at(a, 1))
			if !errors.Is(err, syscall.ECONNREFUSED) {
				note("dialled", err)
			}
		})
		write(t, server, "held back")

		time.Sleep(time.Second)
		write(t, client, "hello")
		send(t, pa, pb, "hello")
		c, err := a.Dial(t.Context(), addrOf(l))
		if err != nil {
			t.Fatalf("dial a stopped process: %v", err)
		}
		defer c.Close()
		if s := received(pa, 4*time.Second-2*ms); len(s) > 0 {
			t.Errorf("a stopped process sent %q", s)
		}
		if len(got) > 0 {
			t.Errorf("a stopped process went on: %v", got)
		}
		time.Sleep(5*time.Second - time.Since(start))
		b.Resume()
		wg.Wait()
		want(t, client, "held back")
		for _, r := range got {
			if strings.Contains(r.what, ":") || r.at != 5*time.Second {
				t.Errorf("%s after %v, want no error after 5s", r.what, r.at)
			}
		}
		if len(got) != 4 {
			t.Errorf("got %v, want four things", got)
		}
	})
}

func TestPausedKernelKeepsABoundedAmount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := two(testcluster.Link{})
		client, server := connect(t, a, b)
		b.Pause()
		client.SetWriteDeadline(time.Now().Add(time.Second))
		n, err := client.Write(make([]byte, 1<<20))
		if !errors.Is(err, os.ErrDeadlineExceeded) || n < 64<<10 || n > 256<<10 {
			t.Errorf("a stopped reader took %d bytes, %v", n, err)
		}
		b.Resume()
		go client.Close()
		if got, err := io.Copy(io.Discard, server); got != int64(n) || err != nil {
			t.Errorf("read %d bytes, %v, want %d", got, err, n)
		}
	})
}

func TestBacklogIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := two(testcluster.Link{})
		l := listen(t, b)
		ctx, cancel := context.WithTimeout(t.Context(), 500*ms)
		defer cancel()
		connected := 0
		for range 200 {
			c, err := a.Dial(ctx, addrOf(l))
			if err != nil {
				break
			}
			connected++
			defer c.Close()
		}
		if connected != 128 {
			t.Errorf("a listener that does not accept took %d streams, want 128", connected)
		}
	})
}

func TestHTTP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := two(testcluster.Link{Latency: ms})
		l := listen(t, b)
		srv := &http.Server{
			ReadHeaderTimeout: 5 * time.Second,
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprintf(w, "hello %s", r.RemoteAddr)
			}),
		}
		done := make(chan error)
		go func() { done <- srv.Serve(l) }()
		tr := &http.Transport{DialContext: a.DialContext}
		resp, err := (&http.Client{Transport: tr}).Get("http://" + l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if !strings.HasPrefix(string(body), "hello 10.0.0.1:") {
			t.Errorf("got %q", body)
		}

		// A client that never finishes its header is cut.
		slow, err := a.Dial(t.Context(), addrOf(l))
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		write(t, slow, "GET / HT")
		io.ReadAll(slow)
		if got := time.Since(start); math.Abs(float64(got-5*time.Second)) > float64(10*ms) {
			t.Errorf("cut after %v, want 5s", got)
		}
		slow.Close()
		tr.CloseIdleConnections()
		srv.Shutdown(t.Context())
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
}
