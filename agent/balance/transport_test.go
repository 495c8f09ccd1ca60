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
	"github.com/peerhq/peer/testcluster"
)

func TestTurnsOfRequests(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
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

// The request that the peers see, and the one that the caller has.
func TestHostAndURL(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
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
		// A request without a host is nobody's, also when members are followed.
		f.tr.Services[""] = f.web
		req = request("GET", nil)
		req.URL = nil
		if _, err := f.send(req); err == nil || len(f.took()) != 0 {
			t.Errorf("without a URL: %v", err)
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
	testcluster.Bubble(t, func(t *testing.T) {
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
	testcluster.Bubble(t, func(t *testing.T) {
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
	testcluster.Bubble(t, func(t *testing.T) {
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
	testcluster.Bubble(t, func(t *testing.T) {
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
