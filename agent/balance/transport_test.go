package balance_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerhq/peer/agent/balance"
	"github.com/peerhq/peer/selector"
)

func TestTurnsOfRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t, nil, answer(200), answer(200), answer(404))
		for range 9 {
			if _, err := f.get(); err != nil {
				t.Fatal(err)
			}
		}
		hits := f.took()
		slices.Sort(hits)
		expect(t, "nine requests", strings.Join(hits, ","), "a GET,a GET,a GET,b GET,b GET,b GET,c GET,c GET,c GET")
		f.balanced()
	})
}

// What may be sent again, and what not.
func TestWhatIsRetried(t *testing.T) {
	with := func(r *http.Request, key string) *http.Request {
		r.Header.Set(key, "1")
		return r
	}
	stream := func(method string) *http.Request {
		r := request(method, io.NopCloser(strings.NewReader("body")))
		r.ContentLength = 4
		return r
	}
	for name, c := range map[string]struct {
		req   *http.Request
		first http.HandlerFunc // nil refuses
		want  int              // peers that see it
	}{
		"GET":                                {request("GET", nil), answer(503), 2},
		"HEAD":                               {request("HEAD", nil), answer(502), 2},
		"OPTIONS":                            {request("OPTIONS", nil), answer(504), 2},
		"TRACE":                              {request("TRACE", nil), answer(503), 2},
		"DELETE":                             {request("DELETE", nil), answer(503), 2},
		"PUT":                                {request("PUT", strings.NewReader("body")), answer(503), 2},
		"PUT without a body":                 {request("PUT", http.NoBody), answer(503), 2},
		"POST":                               {request("POST", strings.NewReader("body")), answer(503), 1},
		"PATCH":                              {request("PATCH", strings.NewReader("body")), answer(503), 1},
		"POST with Idempotency-Key":          {with(request("POST", strings.NewReader("body")), "Idempotency-Key"), answer(503), 2},
		"POST with X-Idempotency-Key":        {with(request("POST", nil), "X-Idempotency-Key"), answer(503), 2},
		"GET, reset":                         {request("GET", nil), reset, 2},
		"POST, reset":                        {request("POST", strings.NewReader("body")), reset, 1},
		"GET, another status":                {request("GET", nil), answer(500), 1},
		"GET, too many requests":             {request("GET", nil), answer(429), 1},
		"PUT of a stream, read":              {stream("PUT"), answer(503), 1},
		"PUT of a stream, reset":             {stream("PUT"), reset, 1},
		"GET, refused":                       {request("GET", nil), nil, 1},
		"POST, refused":                      {request("POST", strings.NewReader("body")), nil, 1},
		"POST of a stream, refused":          {stream("POST"), nil, 1},
		"a keyed POST of a stream, answered": {with(stream("POST"), "Idempotency-Key"), answer(503), 1},
	} {
		bubble(t, name, func(t *testing.T) {
			f := newFarm(t, func(c *balance.Config) { c.Policy = selector.ByKey }, c.first, answer(200), answer(200))
			// By key, so that a is the first, and c the second.
			key := keyOf(f.web, "a c")
			f.tr.Key = func(*http.Request) string { return key }
			closed := &closing{}
			if c.req.Body != nil && c.req.Body != http.NoBody {
				closed.Reader, c.req.Body = c.req.Body, closed
			}
			_, err := f.send(c.req)
			hits := f.took()
			if len(hits) != c.want {
				t.Errorf("%d peers have seen it: %q, %v", len(hits), hits, err)
			}
			for _, h := range hits {
				if c.req.ContentLength > 0 && !strings.HasSuffix(h, " body") {
					t.Errorf("a peer has seen %q", h)
				}
			}
			if c.first == nil && (err != nil || len(hits) > 0 && hits[0][0] != 'c') {
				t.Errorf("refused by the first, seen by %q: %v", hits, err)
			}
			if closed.Reader != nil && closed.n.Load() != 1 {
				t.Errorf("the request's body was closed %d times", closed.n.Load())
			}
			f.balanced()
		})
	}
}

// Never the same peer twice, and never more than so many.
func TestTries(t *testing.T) {
	bubble(t, "all refuse", func(t *testing.T) {
		f := newFarm(t, nil, nil, nil, nil, nil)
		f.tr.Attempts = 10
		_, err := f.get()
		var tried *balance.TriedError
		if !errors.As(err, &tried) || len(tried.Tries) != 4 || !strings.Contains(err.Error(), "from any of 4 peers") {
			t.Fatalf("got %v", err)
		}
		seen := map[string]bool{}
		for _, try := range tried.Tries {
			if seen[try.Peer.Name] || try.Err == nil || try.Status != 0 || !strings.Contains(err.Error(), try.Peer.HostPort()) {
				t.Errorf("a try of %s: %+v", try.Peer.Name, try)
			}
			seen[try.Peer.Name] = true
		}
		f.balanced()
	})
	bubble(t, "all are unwell", func(t *testing.T) {
		f := newFarm(t, nil, answer(503), answer(503), answer(503), answer(503), answer(503))
		body, err := f.get()
		hits := f.took()
		if err != nil || len(hits) != 3 || body != "503 by "+hits[2][:1] {
			t.Errorf("got %q, %v, from %q: want the third answer", body, err, hits)
		}
		slices.Sort(hits)
		if len(slices.Compact(hits)) != 3 {
			t.Errorf("one was asked twice: %q", hits)
		}
		f.balanced()
	})
	bubble(t, "the only one is unwell", func(t *testing.T) {
		f := newFarm(t, nil, answer(503))
		if body, err := f.get(); err != nil || body != "503 by a" {
			t.Errorf("got %q, %v", body, err)
		}
		f.balanced()
	})
	bubble(t, "an answer, then none", func(t *testing.T) {
		f := newFarm(t, nil, answer(503), nil)
		f.tr.Key = func(*http.Request) string { return "" }
		for range 4 {
			if body, err := f.get(); err == nil && body != "503 by a" {
				t.Errorf("got %q", body)
			}
		}
		f.balanced()
	})
}

func TestRetryStatus(t *testing.T) {
	for name, c := range map[string]struct {
		set  []int
		code int
		want int
	}{
		"default 503":      {nil, 503, 2},
		"default 500":      {nil, 500, 1},
		"500 in the set":   {[]int{500}, 500, 2},
		"503 not in it":    {[]int{500}, 503, 1},
		"none, and so 503": {[]int{}, 503, 1},
	} {
		bubble(t, name, func(t *testing.T) {
			f := newFarm(t, nil, answer(c.code), answer(c.code))
			f.tr.RetryStatus = c.set
			if _, err := f.get(); err != nil {
				t.Error(err)
			}
			if got := len(f.took()); got != c.want {
				t.Errorf("%d peers were asked, want %d", got, c.want)
			}
			strikes := f.standing("a").Strikes + f.standing("b").Strikes
			if blamed := strikes > 0; blamed != (c.want == 2) {
				t.Errorf("%d failures are reported", strikes)
			}
			f.balanced()
		})
	}
}

// What comes of requests is reported: failures with their peer, successes with
// their latency.
func TestReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
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
	synctest.Test(t, func(t *testing.T) {
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
	synctest.Test(t, func(t *testing.T) {
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
	synctest.Test(t, func(t *testing.T) {
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
	synctest.Test(t, func(t *testing.T) {
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

// The request that the peers see, and the one that the caller has.
func TestHostAndURL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		show := func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/moved" {
				http.Redirect(w, r, "/here", http.StatusFound)
				return
			}
			fmt.Fprintf(w, "%s %s", r.Host, r.URL)
		}
		f := newFarm(t, nil, show, show)
		req := request("GET", nil)
		before := fmt.Sprint(req.URL, req.Host, req.Header)
		resp, err := f.tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		expect(t, "by default", string(b), "web /path?q=1")
		if resp.Request != req || fmt.Sprint(req.URL, req.Host, req.Header) != before {
			t.Errorf("the request is not as it was: %v, %v", resp.Request.URL, req.URL)
		}
		req.Host = "shop.example.com"
		body, _ := f.send(req)
		expect(t, "with a Host", body, "shop.example.com /path?q=1")
		req.Host = ""
		body, _ = f.send(req)
		expect(t, "without any", body, "web /path?q=1")
		req = request("GET", nil)
		req.URL.Host = "WEB"
		if _, err := f.send(req); err != nil {
			t.Error(err)
		}

		c := http.Client{Transport: f.tr}
		r, err := c.Get("http://web/moved")
		if err != nil {
			t.Fatal(err)
		}
		b, _ = io.ReadAll(r.Body)
		r.Body.Close()
		expect(t, "after a redirect", string(b), "web /here")
		expect(t, "where it ended", r.Request.URL.String(), "http://web/here")

		f.took()
		closed := &closing{Reader: strings.NewReader("x")}
		req = request("PUT", closed)
		req.URL.Host = "web:80"
		if _, err := f.send(req); err == nil || !strings.Contains(err.Error(), "leave it out") || closed.n.Load() != 1 {
			t.Errorf("with a port: %v", err)
		}
		// Another host is none of ours.
		req = request("GET", nil)
		req.URL.Host = "10.1.0.1"
		body, err = f.send(req)
		if err != nil || body != "web /path?q=1" || f.took()[0] != "a GET" {
			t.Errorf("another host: %q, %v", body, err)
		}
		f.balanced()
	})
}

// What is wrong with the request itself is no peer's fault.
func TestTheCallersFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t, nil, answer(200), answer(200))
		f.tr.Base = f.tr.Base.(counting).RoundTripper
		bad := request("GET", nil)
		bad.Header["Bad Name"] = []string{"x"}
		torn := request("PUT", io.MultiReader(strings.NewReader("half"), failing{}))
		torn.ContentLength = 100
		again := request("PUT", failing{})
		again.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(failing{}), nil }
		for name, req := range map[string]*http.Request{"a header": bad, "a body": torn, "a body with GetBody": again} {
			var tried *balance.TriedError
			if _, err := f.send(req); !errors.As(err, &tried) || len(tried.Tries) != 1 {
				t.Errorf("%s: %v", name, err)
			}
		}
		synctest.Wait()
		for _, s := range f.web.Explain(selector.Want{}) {
			if s.Strikes != 0 || s.Load != 0 {
				t.Errorf("%s is blamed: %+v", s.ID, s)
			}
		}
	})
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("no such disk") }

// Nobody: at once, or after as long as is asked for.
func TestNobodyToSendTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t, nil, answer(200))
		a := f.nobody("a")
		f.set()
		synctest.Wait()
		closed := &closing{Reader: strings.NewReader("x")}
		var none *balance.NoPeersError
		if _, err := f.send(request("PUT", closed)); !errors.As(err, &none) || !errors.Is(err, selector.ErrNoPeers) || closed.n.Load() != 1 {
			t.Errorf("got %v", err)
		}
		f.tr.Wait = 10 * time.Second
		began := time.Now()
		if _, err := f.get(); !errors.As(err, &none) || errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 10*time.Second {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
		time.AfterFunc(5*time.Second, func() { f.set(a) })
		began = time.Now()
		if body, err := f.get(); err != nil || body != "200 by a" || time.Since(began) != 5*time.Second {
			t.Errorf("got %q, %v after %v", body, err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		f.set()
		synctest.Wait()
		if _, err := f.send(request("GET", nil).WithContext(ctx)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		f.balanced()

		// At its start a program has no view yet: that is waited for.
		f.set(a)
		f.down()
		w := f.watch(nil)
		tr := balance.NewTransport(w)
		tr.Base = f.tr.Base
		time.AfterFunc(time.Second, f.up)
		resp, err := tr.RoundTrip(request("GET", nil))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		f.down()
		tr = balance.NewTransport(f.watch(nil))
		began = time.Now()
		if _, err := tr.RoundTrip(request("GET", nil)); !errors.As(err, &none) || none.Agent == nil || time.Since(began) != 5*time.Second {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
		f.up()
	})
}

// An upgraded connection reads and writes.
func TestSwitchingProtocols(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t, nil, func(w http.ResponseWriter, r *http.Request) {
			c, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer c.Close()
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			b := make([]byte, 4)
			io.ReadFull(rw, b)
			c.Write(bytes.ToUpper(b))
		})
		req := request("GET", nil)
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "echo")
		resp, err := f.tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.standing("a").Load; got != 1 {
			t.Errorf("%d under way, want 1", got)
		}
		io.WriteString(resp.Body.(io.Writer), "ping")
		b, err := io.ReadAll(resp.Body)
		if string(b) != "PING" || err != nil {
			t.Errorf("got %q, %v", b, err)
		}
		resp.Body.Close()
		f.balanced()
	})
}

// With the transport of its own: over real sockets, and with the service's name
// in the TLS handshake.
func TestOwnTransport(t *testing.T) {
	plain := httptest.NewServer(answer(200))
	defer plain.Close()
	names := make(chan string, 10)
	secure := httptest.NewUnstartedServer(answer(200))
	secure.Config.ErrorLog = quiet
	secure.TLS = &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		names <- h.ServerName
		return nil, nil
	}}
	secure.StartTLS()
	defer secure.Close()
	for scheme, s := range map[string]*httptest.Server{"http": plain, "https": secure} {
		agent := httptest.NewServer(oneList(s.Listener.Addr().String()))
		defer agent.Close()
		w := start(t, balance.Config{Service: "web", Agent: agent.URL}, nil)
		tr := balance.NewTransport(w)
		tr.Attempts = 1
		resp, err := (&http.Client{Transport: tr}).Get(scheme + "://web/")
		if scheme == "http" {
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		} else if got := <-names; got != "web" || err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("the peer was asked for %q: %v", got, err)
		}
		tr.CloseIdleConnections()
		w.Close()
	}
}

// Many requests while peers come, go and fail: each has an answer, nobody is
// asked twice for one, and no turn is forgotten.
func TestRequestsWhileViewsChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t, func(c *balance.Config) { c.Policy = selector.LeastLoaded }, answer(200), nil, answer(503), answer(200), reset, answer(200))
		f.tr.Attempts = 6
		all := f.all()
		var sending sync.WaitGroup
		for range 8 {
			sending.Go(func() {
				for range 50 {
					if body, err := f.send(request("PUT", strings.NewReader("body"))); err != nil || !strings.HasPrefix(body, "200") {
						t.Errorf("got %q, %v", body, err)
					}
					time.Sleep(time.Millisecond)
				}
			})
		}
		for i := range 100 {
			// a is always there; of the others one is not.
			f.set(slices.Delete(slices.Clone(all), 1+i%5, 2+i%5)...)
			time.Sleep(time.Millisecond)
		}
		sending.Wait()
		f.balanced()
	})
}
