package httpapi_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/testcluster"
)

const jsonType = "Content-Type: application/json"

func TestLockRequests(t *testing.T) {
	a := newFakeAgent()
	var got string
	lease := api.Lease{Name: "n", Lease: "l", Fence: 7, TTLMS: 15000, ExpiresInMS: 14800}
	num := func(p *int64) string {
		if p == nil {
			return "-"
		}
		return fmt.Sprint(*p)
	}
	a.locking = fakeLocks{
		acquire: func(_ context.Context, name string, r api.LockRequest) (api.Lease, error) {
			got = fmt.Sprintf("acquire %s ttl %s wait %s %s %d", name, num(r.TTLMS), num(r.WaitMS), r.Command, r.PID)
			return lease, nil
		},
		renew: func(name, l string) (api.Lease, error) {
			got = fmt.Sprintf("renew %s %s", name, l)
			return lease, nil
		},
		release: func(_ context.Context, name, l string) (api.Released, error) {
			got = fmt.Sprintf("release %s %s", name, l)
			return api.Released{Name: name}, nil
		},
		force: func(name string) (api.Released, error) {
			got = "force " + name
			return api.Released{Name: name, Holder: &api.LockHolder{Node: "b"}}, nil
		},
		hold: func(_ context.Context, name string, r api.LockRequest, tell func(api.HoldEvent) error) error {
			got = fmt.Sprintf("hold %s ttl %s wait %s", name, num(r.TTLMS), num(r.WaitMS))
			return tell(api.HoldEvent{Type: api.HoldAcquired, Fence: 7})
		},
	}
	e := start(t, a)
	for _, c := range []struct {
		request, body, header string
		code                  int
		want                  string // what the agent was asked, or what the problem says
	}{
		{"POST /v1/locks/demo", `{"ttl_ms":500,"wait_ms":0,"command":"c","pid":3}`, jsonType, 200, "acquire demo ttl 500 wait 0 c 3"},
		{"POST /v1/locks/demo", ``, jsonType, 200, "acquire demo ttl - wait - Go-http-client 0"},
		{"POST /v1/locks/demo", `{}`, "User-Agent: curl/8.5 (x)\x00", 200, ""},
		{"POST /v1/locks/a%2Fb%20c", `{}`, jsonType, 200, "acquire a/b c ttl - wait - Go-http-client 0"},
		{"POST /v1/locks/%7Bx%7D", `{}`, jsonType, 200, "acquire {x} ttl - wait - Go-http-client 0"},
		{"POST /v1/locks/%2E%2E", `{}`, jsonType, 200, "acquire .. ttl - wait - Go-http-client 0"},
		{"POST /v1/locks/%2E", `{}`, jsonType, 200, "acquire . ttl - wait - Go-http-client 0"},
		{"POST /v1/locks/../renew", `{"lease":"l"}`, jsonType, 200, "renew .. l"},
		{"DELETE /v1/locks/.?force=true", ``, jsonType, 200, "force ."},
		{"POST /v1/locks/%2F", `{}`, jsonType, 200, "acquire / ttl - wait - Go-http-client 0"},
		{"POST /v1/locks/a%2F..%2Fb", `{}`, jsonType, 200, "acquire a/../b ttl - wait - Go-http-client 0"},
		{"POST /v1/locks/renew", `{}`, jsonType, 200, "acquire renew ttl - wait - Go-http-client 0"},
		{"POST /v1/locks/renew/renew", `{"lease":"l"}`, jsonType, 200, "renew renew l"},
		{"POST /v1/locks/hold/hold", `{"ttl_ms":900}`, jsonType, 200, "hold hold ttl 900 wait -"},
		{"DELETE /v1/locks/a%2Fb", `{"lease":"l"}`, jsonType, 200, "release a/b l"},
		{"DELETE /v1/locks/demo?force=true", ``, jsonType, 200, "force demo"},
		{"DELETE /v1/locks/demo?force", `{}`, jsonType, 200, "force demo"},
		{"DELETE /v1/locks/demo?force=false", `{"lease":"l"}`, jsonType, 200, "release demo l"},

		{"POST /v1/locks/demo", `{"ttl":500}`, jsonType, 400, `unknown field \"ttl\"`},
		{"POST /v1/locks/demo", `{"ttl_ms":"500"}`, jsonType, 400, "does not parse"},
		{"POST /v1/locks/demo", `{"ttl_ms":1.5}`, jsonType, 400, "does not parse"},
		{"POST /v1/locks/demo", `{"ttl_ms":1e99}`, jsonType, 400, "does not parse"},
		{"POST /v1/locks/demo", `{}{}`, jsonType, 400, "more than one JSON value"},
		{"POST /v1/locks/demo", `[]`, jsonType, 400, "does not parse"},
		{"POST /v1/locks/demo", `{}`, "", 415, "application/json"},
		{"POST /v1/locks/demo", `{}`, "Origin: http://evil.example", 403, ""},
		{"POST /v1/locks/demo?ttl_ms=5", `{}`, jsonType, 400, "ttl_ms"},
		{"POST /v1/locks/", `{}`, jsonType, 404, ""},
		{"POST /v1/locks", `{}`, jsonType, 405, "use GET, HEAD"},
		{"PUT /v1/locks/demo", `{}`, jsonType, 405, "DELETE"},
		{"POST /v1/locks/demo/renew", `{}`, jsonType, 400, "lease is missing"},
		{"POST /v1/locks/demo/renew", `{"lease":"` + strings.Repeat("x", 129) + `"}`, jsonType, 400, "lease is missing"},
		{"GET /v1/locks/demo/renew", ``, "", 405, "use POST"},
		{"DELETE /v1/locks/demo", ``, jsonType, 400, "?force=true"},
		{"DELETE /v1/locks/demo?force=true", `{"lease":"l"}`, jsonType, 400, `unknown field \"lease\"`},
		{"DELETE /v1/locks/demo?force=yes", ``, jsonType, 400, "neither true nor false"},
	} {
		got = ""
		method, target, _ := strings.Cut(c.request, " ")
		headers := []string{c.header}
		if c.header != "" && c.header != jsonType {
			headers = []string{jsonType, strings.Trim(c.header, "\x00")}
		}
		ans := e.ask(e.http, method, target, c.body, headers...)
		if ans.code != c.code {
			t.Errorf("%s %s: got %d, want %d: %s", c.request, c.body, ans.code, c.code, ans.body)
			continue
		}
		if c.code >= 400 {
			if problemOf(t, ans); !strings.Contains(ans.body, c.want) || got != "" {
				t.Errorf("%s %s: %s does not say %q, or the agent was asked %q", c.request, c.body, ans.body, c.want, got)
			}
		} else if c.want != "" && got != c.want {
			t.Errorf("%s %s: the agent was asked %q, want %q", c.request, c.body, got, c.want)
		}
		if strings.HasPrefix(c.header, "User-Agent") && !strings.HasSuffix(got, " curl 0") {
			t.Errorf("the agent was asked %q, want the name of the client", got)
		}
	}
}

// A wait outlasts the time that its body had, and the usual time of an answer.
func TestAWaitForALockIsLong(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
		a := newFakeAgent()
		a.locking.acquire = func(ctx context.Context, _ string, _ api.LockRequest) (api.Lease, error) {
			select {
			case <-time.After(10 * time.Minute):
				return api.Lease{Lease: "l"}, nil
			case <-ctx.Done():
				return api.Lease{}, context.Cause(ctx)
			}
		}
		a.join = func(ctx context.Context, addrs []string) api.JoinResult {
			select {
			case <-time.After(15 * time.Second):
			case <-ctx.Done():
				t.Errorf("a join ended after less than 15 s: %v", ctx.Err())
			}
			return api.JoinResult{Joined: addrs}
		}
		e := start(t, a)
		if ans := e.ask(e.http, "POST", "/v1/locks/demo", `{"wait_ms":900000}`, jsonType); ans.code != 200 {
			t.Errorf("a wait of 10 minutes: %d %s", ans.code, ans.body)
		}
		if ans := e.ask(e.http, "POST", "/v1/join", `{"addrs":["x:1"]}`, jsonType); ans.code != 200 {
			t.Errorf("a join of 15 s: %d %s", ans.code, ans.body)
		}
	})
}

// A client that goes while it waits ends the wait, and one that goes just as the
// lock comes has it released.
func TestAClientThatGoesHasNoLock(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
		a := newFakeAgent()
		var ended time.Time
		released := ""
		a.locking.acquire = func(ctx context.Context, name string, _ api.LockRequest) (api.Lease, error) {
			<-ctx.Done()
			ended = time.Now()
			if name == "crossed" {
				return api.Lease{Lease: "the lease"}, nil
			}
			return api.Lease{}, ctx.Err()
		}
		a.locking.release = func(ctx context.Context, name, lease string) (api.Released, error) {
			if err := ctx.Err(); err != nil {
				t.Errorf("released with a context that is done: %v", err)
			}
			released = name + " " + lease
			return api.Released{}, nil
		}
		e := start(t, a)
		for _, name := range []string{"waiting", "crossed"} {
			c, _ := e.raw("POST /v1/locks/" + name + " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
			time.Sleep(time.Minute)
			c.Close()
			closed := time.Now()
			synctest.Wait()
			if !ended.Equal(closed) {
				t.Errorf("%s: the wait ended %v after the connection", name, ended.Sub(closed))
			}
		}
		if released != "crossed the lease" {
			t.Errorf("released %q, want the lease that crossed", released)
		}
	})
}

// A client that goes with its lease in hand, as curl does, keeps it.
func TestAClientThatHasItsLeaseMayGo(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
		a := newFakeAgent()
		a.locking.acquire = func(context.Context, string, api.LockRequest) (api.Lease, error) {
			return api.Lease{Lease: "the lease"}, nil
		}
		released := 0
		a.locking.release = func(context.Context, string, string) (api.Released, error) {
			released++
			return api.Released{}, nil
		}
		e := start(t, a)
		for range 500 {
			c, r := e.raw("POST /v1/locks/demo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
			res, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			c.Close()
			synctest.Wait()
		}
		if released > 0 {
			t.Errorf("%d of 500 leases were released as their clients left with them", released)
		}
	})
}

func TestLockWaitsAreBounded(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
		a := newFakeAgent()
		free := make(chan struct{})
		a.locking.acquire = func(context.Context, string, api.LockRequest) (api.Lease, error) {
			<-free
			return api.Lease{}, nil
		}
		e := start(t, a)
		codes := make(chan int, 60)
		for range 60 {
			go func() { codes <- e.ask(e.http, "POST", "/v1/locks/demo", `{}`, jsonType).code }()
		}
		synctest.Wait()
		refused := 0
		for len(codes) > 0 {
			if <-codes == 503 {
				refused++
			}
		}
		if refused != 60-48 {
			t.Errorf("%d of 60 refused, want 12", refused)
		}
		if m := e.get("/metrics").body; !strings.Contains(m, "peer_http_lock_waits 48\n") {
			t.Errorf("metrics: %s", grep(m, "lock_waits"))
		}
		close(free)
		synctest.Wait()
		if ans := e.ask(e.http, "POST", "/v1/locks/demo", `{}`, jsonType); ans.code != 200 {
			t.Errorf("afterwards: %d", ans.code)
		}
	})
}

// hold opens a hold and returns its connection and the lines of its answer.
func (e *endpoint) hold(name string) (net.Conn, *http.Response, *bufio.Reader) {
	e.t.Helper()
	c, r := e.raw("POST /v1/locks/" + name + "/hold HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		e.t.Fatalf("hold %s: %v", name, err)
	}
	return c, resp, bufio.NewReader(resp.Body)
}

func TestHoldStream(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
		a := newFakeAgent()
		a.locking.hold = func(ctx context.Context, name string, _ api.LockRequest, tell func(api.HoldEvent) error) error {
			switch name {
			case "held":
				return api.NewProblem(409, api.KindLockHeld, "b has it", "wait")
			case "late":
				_ = tell(api.HoldEvent{Type: api.HoldWaiting, Position: 2, Holder: &api.LockHolder{Node: "b\n"}})
				time.Sleep(time.Hour)
				return api.NewProblem(409, api.KindLockHeld, "b has it", "wait")
			}
			for i := range 100 {
				typ := api.HoldHeld
				if i == 0 {
					typ = api.HoldAcquired
				}
				if err := tell(api.HoldEvent{Type: typ, ExpiresInMS: int64(i)}); err != nil {
					return nil
				}
				select {
				case <-ctx.Done():
					return nil
				case <-time.After(time.Minute):
				}
			}
			return tell(api.HoldEvent{Type: api.HoldLost, Reason: "expired"})
		}
		e := start(t, a)
		if ans := e.ask(e.http, "POST", "/v1/locks/held/hold", `{}`, jsonType); ans.code != 409 {
			t.Errorf("held: %d", ans.code)
		} else if p := problemOf(t, ans); p.Kind() != api.KindLockHeld {
			t.Errorf("held: %+v", p)
		}
		_, resp, r := e.hold("late")
		if ct := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || ct != "application/x-ndjson" {
			t.Errorf("late: %d %s", resp.StatusCode, ct)
		}
		got := lines(t, r, 2)
		if got[0] != `{"type":"waiting","position":2,"holder":{"node":"b\n","pid":0,"command":"","since":null},"elapsed_ms":0}` ||
			!strings.HasPrefix(got[1], `{"type":"failed","elapsed_ms":0,"problem":{"type":"urn:peer:error:lock-held"`) {
			t.Errorf("late: %q", got)
		}
		_, _, r = e.hold("free")
		all, err := io.ReadAll(r) // 100 minutes
		if n := strings.Count(string(all), "\n"); err != nil || n != 101 || !strings.HasSuffix(string(all), `{"type":"lost","elapsed_ms":0,"reason":"expired"}`+"\n") {
			t.Errorf("free: %d lines, %v: %.200s", n, err, all)
		}
		if m := e.get("/metrics").body; strings.Contains(m, `peer_http_request_seconds_count{route="POST /v1/locks/{name}/hold"}`) {
			t.Error("how long a hold lasts is in the histogram of answers")
		}
	})
}

// The agent hears whether a client has gone or only does not read.
func TestHoldTellsHowItBroke(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
		a := newFakeAgent()
		ended := make(chan error, 1)
		a.locking.hold = func(ctx context.Context, _ string, _ api.LockRequest, tell func(api.HoldEvent) error) error {
			for {
				if err := tell(api.HoldEvent{Type: api.HoldHeld}); err != nil {
					ended <- err
					return nil
				}
				select {
				case <-ctx.Done():
					ended <- ctx.Err()
					return nil
				case <-time.After(time.Second):
				}
			}
		}
		e := start(t, a)
		e.hold("deaf") // reads no more than the header
		if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a deaf client: %v", err)
		}
		c, _, r := e.hold("gone")
		go func() { _, _ = io.Copy(io.Discard, r) }()
		time.Sleep(time.Hour)
		c.Close()
		if err := <-ended; errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a client that is gone: %v", err)
		}
	})
}

// TestLockClient drives the routes through the client that Go programs use.
func TestLockClient(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
		a := newFakeAgent()
		a.locking = fakeLocks{
			acquire: func(_ context.Context, name string, r api.LockRequest) (api.Lease, error) {
				if *r.TTLMS != 3000 || *r.WaitMS != 60000 || r.PID != os.Getpid() || r.Command != "c" {
					t.Errorf("asked for %+v", r)
				}
				time.Sleep(40 * time.Second)
				return api.Lease{Name: name, Lease: "l", Fence: 9, TTLMS: 3000, ElapsedMS: 40000, ExpiresInMS: 2900}, nil
			},
			renew: func(name, lease string) (api.Lease, error) {
				if lease != "l" {
					return api.Lease{}, api.NewProblem(409, api.KindLockLost, "over", "stop")
				}
				return api.Lease{Name: name, Lease: lease, ExpiresInMS: 2970}, nil
			},
			release: func(_ context.Context, name, lease string) (api.Released, error) {
				if name != "a/b" || lease != "l" {
					t.Errorf("released %s %s", name, lease)
				}
				return api.Released{}, nil
			},
			force: func(name string) (api.Released, error) { return api.Released{Name: name, Fence: 3}, nil },
		}
		e := start(t, a)
		c, err := api.NewClient("localhost:7980", api.WithDialer(func(ctx context.Context, _, _ string) (net.Conn, error) { return e.tcp.dial(ctx) }))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ctx := t.Context()
		began := time.Now()
		l, err := c.Acquire(ctx, "a/b", api.LockOptions{TTL: 3 * time.Second, Wait: time.Minute, Command: "c"})
		if err != nil || l.Fence != 9 || l.Deadline.Sub(began) != 42900*time.Millisecond {
			t.Errorf("acquired %+v, good for %v, %v", l, l.Deadline.Sub(began), err)
		}
		time.Sleep(time.Second)
		began = time.Now()
		if l, err = c.Renew(ctx, l); err != nil || l.Deadline.Sub(began) != 2970*time.Millisecond {
			t.Errorf("renewed %+v, good for %v, %v", l, l.Deadline.Sub(began), err)
		}
		if err := c.Release(ctx, l); err != nil {
			t.Errorf("released: %v", err)
		}
		var p *api.Problem
		if _, err := c.Renew(ctx, api.Lease{Name: "x", Lease: "other"}); !errors.As(err, &p) || p.Kind() != api.KindLockLost {
			t.Errorf("renewed another: %v", err)
		}
		if r, err := c.ForceRelease(ctx, "a/b"); err != nil || r.Name != "a/b" || r.Fence != 3 {
			t.Errorf("forced: %+v, %v", r, err)
		}
	})
}

func TestHoldClient(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
		a := newFakeAgent()
		var mu sync.Mutex
		ended := map[string]time.Time{}
		a.locking.hold = func(ctx context.Context, name string, r api.LockRequest, tell func(api.HoldEvent) error) error {
			began := time.Now()
			defer func() {
				mu.Lock()
				ended[name] = time.Now()
				mu.Unlock()
			}()
			say := func(e api.HoldEvent) error {
				e.ElapsedMS = time.Since(began).Milliseconds()
				return tell(e)
			}
			if r.WaitMS != nil && *r.WaitMS == 0 {
				return api.NewProblem(409, api.KindLockHeld, "b has it", "wait")
			}
			_ = say(api.HoldEvent{Type: api.HoldWaiting, Position: 1})
			time.Sleep(time.Minute)
			if name == "late" {
				return api.NewProblem(502, api.KindRedis, "redis is down", "start it")
			}
			_ = say(api.HoldEvent{Type: api.HoldAcquired, Fence: 4, ExpiresInMS: 3000})
			for range 5 {
				select {
				case <-ctx.Done():
					return nil
				case <-time.After(time.Second):
				}
				_ = say(api.HoldEvent{Type: api.HoldHeld, ExpiresInMS: 3000})
			}
			switch name {
			case "silent":
				<-ctx.Done()
				return nil
			case "cut":
				return nil
			}
			return say(api.HoldEvent{Type: api.HoldLost, Reason: "expired"})
		}
		e := start(t, a)
		c, err := api.NewClient("localhost:7980", api.WithDialer(func(ctx context.Context, _, _ string) (net.Conn, error) { return e.tcp.dial(ctx) }))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for _, tt := range []struct {
			name string
			wait time.Duration
			want string
			took time.Duration
		}{
			{"demo", 0, "waiting acquired held held held held held lost:expired", 65 * time.Second},
			{"demo", -1, "error:lock is held: b has it", 0},
			{"late", 0, "waiting error:the shared Redis does not answer as it should: redis is down", time.Minute},
			{"cut", 0, "waiting acquired held held held held held error:the hold has ended: the connection to the agent is gone (unexpected EOF)", 65 * time.Second},
			{"silent", 0, "waiting acquired held held held held held lost:no word from the agent until the lock's deadline", 68 * time.Second},
		} {
			began := time.Now()
			var got []string
			for ev, err := range c.Hold(t.Context(), tt.name, api.LockOptions{TTL: 3 * time.Second, Wait: tt.wait}) {
				switch {
				case err != nil:
					got = append(got, "error:"+err.Error())
				case ev.Type == api.HoldLost:
					got = append(got, "lost:"+ev.Reason)
				default:
					got = append(got, ev.Type)
				}
				if left := time.Until(ev.Deadline); !ev.Deadline.IsZero() && (left > 3*time.Second || left < 2990*time.Millisecond) {
					t.Errorf("%s: %s is good for %v, want 3 s and not more", tt.name, ev.Type, left)
				}
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("%s: got %q, want %q", tt.name, s, tt.want)
			}
			if took := time.Since(began); took < tt.took-20*time.Millisecond || took > tt.took+20*time.Millisecond {
				t.Errorf("%s: took %v, want %v", tt.name, took, tt.took)
			}
		}
		// Leaving the range lets go.
		for ev, err := range c.Hold(t.Context(), "left", api.LockOptions{}) {
			if err != nil {
				t.Fatal(err)
			}
			if ev.Type == api.HoldAcquired {
				break
			}
		}
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if !ended["left"].Equal(time.Now()) {
			t.Error("the hold goes on after the range was left")
		}
	})
}
