package httpapi_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/agent/httpapi"
	"github.com/peerhq/peer/testcluster"
)

// untilClosed returns how long the server keeps c open when nothing is sent.
func untilClosed(t *testing.T, r io.Reader) time.Duration {
	t.Helper()
	began := time.Now()
	if _, err := io.Copy(io.Discard, r); err != nil && !errors.Is(err, io.ErrClosedPipe) {
		t.Fatalf("read: %v", err)
	}
	return time.Since(began)
}

func TestHalfARequestIsCutOff(t *testing.T) {
	tests := []struct {
		name, text string
		after      time.Duration
	}{
		{"nothing", "", 5 * time.Second},
		{"half a line", "GET /li", 5 * time.Second},
		{"half a header", "GET /livez HTTP/1.1\r\nHost: localhost\r\nX: ", 5 * time.Second},
		{"half a body", "POST /v1/join HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", 10 * time.Second},
		{"a body that nobody reads", "POST /v1/join HTTP/1.1\r\nHost: evil\r\nContent-Length: 100\r\n\r\n{", 10 * time.Second},
		{"idle", "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n", 60 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			testcluster.Bubble(t, func(t *testing.T) {
				e := start(t, newFakeAgent())
				_, r := e.raw(tt.text)
				// net/http lingers for half a second with some closes.
				if d := untilClosed(t, r); d < tt.after || d > tt.after+time.Second {
					t.Errorf("open for %v, want %v", d, tt.after)
				}
			})
		})
	}
}

func TestHugeHeaderIsRefused(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
		e := start(t, newFakeAgent())
		for size, want := range map[int]string{15 << 10: "200", 17 << 10: "431"} {
			c, r := e.raw("GET /livez HTTP/1.1\r\nHost: localhost\r\n")
			go io.WriteString(c, "X: "+strings.Repeat("x", size)+"\r\n\r\n") // a refused one is not read to its end
			line, err := r.ReadString('\n')
			if err != nil || !strings.Contains(line, want) {
				t.Errorf("a header of %d bytes: %q %v, want %s", size, line, err, want)
			}
			c.Close()
		}
	})
}

func TestBlockingRead(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
		a := newFakeAgent()
		e := start(t, a)
		timed := func(target string) (answer, time.Duration) {
			began := time.Now()
			got := e.get(target)
			return got, time.Since(began)
		}
		for _, target := range []string{"/v1/members", "/v1/members?index=2", "/v1/members?index=9", "/v1/members?index=3&wait=0s"} {
			if got, d := timed(target); got.code != 200 || d != 0 {
				t.Errorf("%s: %d after %v, want an answer at once", target, got.code, d)
			}
		}
		for target, want := range map[string]time.Duration{
			"/v1/members?index=3":                        30 * time.Second,
			"/v1/members?index=3&wait=7s":                7 * time.Second,
			"/v1/members?index=3&wait=10m":               10 * time.Minute, // longer than the write time-out
			"/v1/members/b?index=3&wait=2s":              2 * time.Second,
			"/v1/members?index=3&wait=1500ms&state=left": 1500 * time.Millisecond,
		} {
			got, d := timed(target)
			if got.code != 200 || d != want || got.header.Get("X-Peer-Index") != "3" {
				t.Errorf("%s: %d index %s after %v, want 200 index 3 after %v", target, got.code, got.header.Get("X-Peer-Index"), d, want)
			}
		}
		time.AfterFunc(4*time.Second, func() { a.emit("failed", "b failed") })
		if got, d := timed("/v1/members?index=3&wait=1m"); d != 4*time.Second || got.header.Get("X-Peer-Index") != "4" {
			t.Errorf("a change: index %s after %v, want 4 after 4s", got.header.Get("X-Peer-Index"), d)
		}
	})
}

func TestWaitingClientsStarveNobody(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
		a := newFakeAgent()
		e := start(t, a)
		var wg sync.WaitGroup
		codes := make(chan int, 1000)
		many := func(n int, target string) {
			for range n {
				wg.Go(func() { codes <- e.get(target).code })
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		opened := make(chan int, 100)
		for range 70 {
			wg.Go(func() {
				req, _ := http.NewRequestWithContext(ctx, "GET", "http://localhost/v1/events", nil)
				resp, err := e.http.Do(req)
				if err != nil {
					t.Errorf("stream: %v", err)
					return
				}
				defer resp.Body.Close()
				opened <- resp.StatusCode
				io.Copy(io.Discard, resp.Body) // ends with ctx
			})
		}
		many(140, "/v1/members?index=3&wait=1m")
		synctest.Wait()
		if got := e.get("/livez"); got.code != 200 {
			t.Errorf("probe: %d", got.code)
		}
		count := map[int]int{}
		for range len(opened) {
			count[<-opened]++
		}
		if count[200] != 64 || count[503] != 6 {
			t.Errorf("streams: %v, want 64 open and 6 refused", count)
		}
		if len(codes) != 12 {
			t.Errorf("%d blocking reads answered at once, want 12", len(codes))
		}
		cancel()
		wg.Wait()
		close(codes)
		count = map[int]int{}
		for c := range codes {
			count[c]++
		}
		if count[200] != 128 || count[503] != 12 {
			t.Errorf("blocking reads: %v, want 128 answered and 12 refused", count)
		}
		// What was taken is given back.
		got := e.ask(e.http, "HEAD", "/v1/events", "")
		if got.code != 200 {
			t.Errorf("a stream afterwards: %d", got.code)
		}
	})
}

func TestAThousandHalfRequestsStarveNobody(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
		e := start(t, newFakeAgent())
		for i := range 1000 {
			c, err := e.tcp.dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			go io.Copy(io.Discard, c)
			go io.WriteString(c, "GET /") // an evicted one does not take it
			if i%100 == 0 {
				began := time.Now()
				if got := e.get("/livez"); got.code != 200 || time.Since(began) > time.Second {
					t.Fatalf("probe among %d half requests: %d after %v", i, got.code, time.Since(began))
				}
			}
		}
		synctest.Wait()
		if m := e.get("/metrics").body; !strings.Contains(m, "peer_http_connections 256") {
			t.Errorf("not 256 connections: %s", grep(m, "peer_http_conn"))
		}
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if m := e.get("/metrics").body; !strings.Contains(m, "peer_http_connections 1\n") {
			t.Errorf("half requests live on: %s", grep(m, "peer_http_conn"))
		}
	})
}

func grep(text, word string) string {
	var out []string
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, word) {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}

func TestIdleConnectionsGiveWay(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
		e := start(t, newFakeAgent())
		for range 256 {
			_, r := e.raw("GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
			if line, err := r.ReadString('\n'); err != nil || !strings.Contains(line, "200") {
				t.Fatalf("%q, %v", line, err)
			}
			go io.Copy(io.Discard, r)
		}
		time.Sleep(time.Second)
		began := time.Now()
		if got := e.get("/livez"); got.code != 200 || time.Since(began) > 0 {
			t.Errorf("among idle ones: %d after %v", got.code, time.Since(began))
		}
	})
}

func TestALargeBodyIsRefusedBeforeItIsSent(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
		e := start(t, newFakeAgent())
		began := time.Now()
		_, r := e.raw("POST /v1/join HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 65537\r\n\r\n")
		if line, err := r.ReadString('\n'); err != nil || !strings.Contains(line, "413") || time.Since(began) > 0 {
			t.Errorf("%q, %v after %v, want a 413 at once", line, err, time.Since(began))
		}
	})
}

func TestBusyConnectionsStay(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
		a := newFakeAgent()
		release := make(chan struct{})
		a.next = func(httpapi.NextQuery) (api.Next, error) {
			<-release
			return api.Next{Peers: []api.NextPeer{{Name: "b"}}}, nil
		}
		e := start(t, a)
		var wg sync.WaitGroup
		codes := make(chan int, 300)
		for range 300 {
			wg.Go(func() { codes <- e.get("/v1/next").code })
		}
		synctest.Wait()
		close(release)
		wg.Wait()
		for range 300 {
			if c := <-codes; c != 200 {
				t.Fatalf("a request was answered %d", c)
			}
		}
	})
}

func TestClose(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
		a := newFakeAgent()
		slow := make(chan struct{})
		a.next = func(httpapi.NextQuery) (api.Next, error) {
			<-slow
			return api.Next{Peers: []api.NextPeer{{Name: "b"}}}, nil
		}
		e := start(t, a)
		resp, err := e.http.Get("http://localhost/v1/events")
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		var blocked, next answer
		var blockedFor, streamFor time.Duration
		began := time.Now()
		wg.Go(func() { blocked = e.get("/v1/members?index=3&wait=5m"); blockedFor = time.Since(began) })
		wg.Go(func() { next = e.get("/v1/next") })
		wg.Go(func() {
			if _, err := io.Copy(io.Discard, resp.Body); err != nil { // a clean end, not a cut
				t.Errorf("stream: %v", err)
			}
			streamFor = time.Since(began)
			resp.Body.Close()
		})
		time.Sleep(time.Second)
		time.AfterFunc(2*time.Second, func() { close(slow) })
		if err := e.server.Close(t.Context()); err != nil {
			t.Errorf("close: %v", err)
		}
		wg.Wait()
		if blocked.code != 200 || blockedFor > 2*time.Second {
			t.Errorf("blocking read: %d after %v, want an answer when the close begins", blocked.code, blockedFor)
		}
		if streamFor > 2*time.Second {
			t.Errorf("stream ended after %v", streamFor)
		}
		if next.code != 200 {
			t.Errorf("a request in progress: %d", next.code)
		}
		if d := time.Since(began); d < 3*time.Second || d > 4*time.Second {
			t.Errorf("close took until %v, want when the last request ended", d)
		}
		if _, err := e.http.Get("http://localhost/livez"); err == nil {
			t.Error("still answers after Close")
		}
		if err := e.server.Close(t.Context()); err != nil {
			t.Errorf("second close: %v", err)
		}
	})
}

func TestCloseCutsOffWhatDoesNotEnd(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
		a := newFakeAgent()
		var ended atomic.Bool
		a.lock = func(ctx context.Context) (api.Locks, error) {
			<-ctx.Done() // as a stalled Redis, with the request's own context
			time.Sleep(300 * time.Millisecond)
			ended.Store(true)
			return api.Locks{}, ctx.Err()
		}
		s, tcp := serveOnly(t, a)
		c := clientOf(tcp)
		var wg sync.WaitGroup
		wg.Go(func() {
			if resp, err := c.Get("http://localhost/v1/locks"); err == nil {
				resp.Body.Close()
				t.Error("the request was answered")
			}
		})
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		began := time.Now()
		if err := s.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("close: %v, want a deadline exceeded", err)
		}
		if d := time.Since(began); d != 2300*time.Millisecond || !ended.Load() {
			t.Errorf("close took %v, and the request had ended: %v; want 2.3s and true", d, ended.Load())
		}
		wg.Wait()
		c.CloseIdleConnections()
	})
}

func serveOnly(t *testing.T, a httpapi.Agent) (*httpapi.Server, *memListener) {
	t.Helper()
	tcp := newMemListener()
	s, err := httpapi.Start(httpapi.Config{TCP: tcp}, a)
	if err != nil {
		t.Fatal(err)
	}
	return s, tcp
}
