package balance_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerhq/peer/agent/balance"
	"github.com/peerhq/peer/selector"
	"github.com/peerhq/peer/testcluster"
)

// What comes of requests is reported: failures with their peer, successes with
// their latency.
func TestReports(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
		slow := func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(40 * time.Millisecond)
			answer(200)(w, r)
		}
		half := func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "half")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
		f := newFarm(t, nil, slow, nil, half, slow, slow, slow)
		var broken int
		for range 12 {
			if _, err := f.get(); err != nil {
				broken++
				if !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Error(err)
				}
			}
		}
		if broken != 1 {
			t.Errorf("%d answers broke off, want the first: then its peer cools down", broken)
		}
		for name, cools := range map[string]bool{"a": false, "b": true, "c": true, "d": false} {
			s := f.standing(name)
			if (s.Strikes == 1) != cools || (s.Tier == selector.Cooling) != cools {
				t.Errorf("%s: %+v", name, s)
			}
			if !cools && s.Latency != 40*time.Millisecond {
				t.Errorf("%s: latency %v", name, s.Latency)
			}
		}
		f.balanced()
	})
}

// Load is what is under way, to the last byte of the answer.
func TestLoad(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
		f := newFarm(t, func(c *balance.Config) { c.Policy = selector.LeastLoaded }, answer(200), answer(200))
		first, err := f.tr.RoundTrip(request("GET", nil))
		if err != nil {
			t.Fatal(err)
		}
		busy := first.Header.Get("Peer")
		if got := f.standing(busy).Load; got != 1 {
			t.Errorf("%d under way, want 1", got)
		}
		for range 5 {
			if body, err := f.get(); err != nil || body == "200 by "+busy {
				t.Errorf("got %q, %v", body, err)
			}
		}
		first.Body.Close()
		f.balanced()
	})
}

// When the caller gives up no other peer is asked, and none is blamed: but a
// deadline that passed while the first was asked tells of it.
func TestGivingUp(t *testing.T) {
	for name, c := range map[string]struct {
		ctx     func() (context.Context, context.CancelFunc)
		handler http.HandlerFunc
		err     error
		blamed  bool
		hits    int
	}{
		"cancelled before": {func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			return ctx, cancel
		}, hang, context.Canceled, false, 0},
		"cancelled": {func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(context.Background())
			time.AfterFunc(time.Second, cancel)
			return ctx, cancel
		}, hang, context.Canceled, false, 1},
		"deadline": {func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(context.Background(), time.Second)
		}, hang, context.DeadlineExceeded, true, 1},
		"cancelled while the answer comes": {func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(context.Background())
			time.AfterFunc(time.Second, cancel)
			return ctx, cancel
		}, func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "half")
			w.(http.Flusher).Flush()
			hang(w, r)
		}, context.Canceled, false, 1},
	} {
		bubble(t, name, func(t *testing.T) {
			f := newFarm(t, nil, c.handler, c.handler)
			ctx, cancel := c.ctx()
			defer cancel()
			closed := &closing{Reader: strings.NewReader("body")}
			req := request("PUT", closed).WithContext(ctx)
			req.GetBody = func() (io.ReadCloser, error) { return http.NoBody, nil }
			_, err := f.send(req)
			if !errors.Is(err, c.err) {
				t.Errorf("got %v, want %v", err, c.err)
			}
			var tried *balance.TriedError
			if errors.As(err, &tried) && len(tried.Tries) != 1 {
				t.Errorf("another peer was tried: %v", err)
			}
			synctest.Wait()
			if hits := f.took(); len(hits) != c.hits {
				t.Errorf("asked %q", hits)
			}
			if got := f.standing("a").Strikes+f.standing("b").Strikes > 0; got != c.blamed {
				t.Errorf("blamed: %v, want %v", got, c.blamed)
			}
			if closed.n.Load() != 1 {
				t.Errorf("the request's body was closed %d times", closed.n.Load())
			}
			f.balanced()
		})
	}
}

// A client's own Timeout is told as such.
func TestClientTimeout(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
		f := newFarm(t, nil, hang)
		c := http.Client{Transport: f.tr, Timeout: time.Second}
		_, err := c.Get("http://web/")
		var timeout interface{ Timeout() bool }
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("got %v", err)
		}
		f.tr.TryTimeout, c.Timeout = time.Second, 0
		_, err = c.Get("http://web/")
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("got %v", err)
		}
	})
}

// A peer that hangs costs the time of one try.
func TestTryTimeout(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
		slowBody := func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "200 ")
			w.(http.Flusher).Flush()
			time.Sleep(10 * time.Second)
			io.WriteString(w, "at last")
		}
		f := newFarm(t, nil, hang, slowBody, slowBody)
		f.tr.TryTimeout = time.Second
		for range 3 {
			began := time.Now()
			body, err := f.get()
			if err != nil || body != "200 at last" || time.Since(began) > 12*time.Second {
				t.Errorf("got %q, %v after %v", body, err, time.Since(began))
			}
		}
		if f.standing("a").Strikes == 0 {
			t.Error("the one that hangs is not blamed")
		}
		hits := strings.Join(f.took(), ",")
		if strings.Count(hits, "a GET") > 2 {
			t.Errorf("it was asked again and again: %s", hits)
		}
		f.balanced()
	})
}

// Nothing is sent to a peer that can not be dialled, however it can not: then
// any request may go to another one.
func TestNotSent(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
		f := newFarm(t, nil, nil, answer(200))
		f.net.Isolate(f.net.Host("10.1.0.1"))
		f.tr.Base = f.tr.Base.(counting).RoundTripper
		f.tr.TryTimeout = time.Second
		for range 2 {
			body := io.NopCloser(strings.NewReader("body"))
			if got, err := f.send(request("POST", body)); err != nil || got != "200 by b" {
				t.Errorf("got %q, %v", got, err)
			}
		}
		expect(t, "what was seen", strings.Join(f.took(), ","), "b POST body,b POST body")
		if f.standing("a").Strikes != 1 {
			t.Errorf("a: %+v", f.standing("a"))
		}
	})
}
