package checks_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerhq/peer/agent/checks"
	"github.com/peerhq/peer/testcluster"
)

// target is a service to check; what it does with a connection can be changed.
type target struct {
	mu    sync.Mutex
	serve func(net.Conn) // nil: connection refused
	dials []time.Time
	wg    sync.WaitGroup
}

func (s *target) set(serve func(net.Conn)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serve = serve
}

func (s *target) dial(context.Context, string, string) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dials = append(s.dials, time.Now())
	serve := s.serve
	if serve == nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	a, b := net.Pipe()
	s.wg.Go(func() {
		defer b.Close()
		serve(b)
	})
	return a, nil
}

// says reads a request and sends text as it is.
func says(text string) func(net.Conn) {
	return func(c net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			_, _ = io.WriteString(c, text)
		}
	}
}

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

// run starts a checker of one service called web in a bubble.
func run(t *testing.T, spec checks.Spec, serve func(net.Conn), test func(c *checks.Checker, s *target, changes *[]string)) {
	t.Helper()
	testcluster.Bubble(t, func(t *testing.T) {
		s := &target{serve: serve}
		var mu sync.Mutex
		var changes []string
		var c *checks.Checker
		c = checks.Start(checks.Config{Dial: s.dial, OnChange: func(name string) {
			st, _ := c.Status(name)
			mu.Lock()
			defer mu.Unlock()
			changes = append(changes, st.Health)
		}})
		defer s.wg.Wait()
		defer c.Close()
		if err := c.Set("web", spec); err != nil {
			t.Fatal(err)
		}
		test(c, s, &changes)
	})
}

func health(t *testing.T, c *checks.Checker) checks.Status {
	t.Helper()
	synctest.Wait()
	st, known := c.Status("web")
	if !known {
		t.Fatal("web is not checked")
	}
	return st
}

func TestAnswers(t *testing.T) {
	httpSpec := checks.Spec{HTTP: "http://10.0.0.1:8080/healthz", Interval: time.Second, Timeout: 500 * time.Millisecond}
	for name, c := range map[string]struct {
		spec  checks.Spec
		serve func(net.Conn)
		want  string
		text  string
	}{
		"200":             {httpSpec, says(ok), "passing", "answers 200"},
		"204":             {httpSpec, says("HTTP/1.1 204 No Content\r\n\r\n"), "passing", "answers 204"},
		"429":             {httpSpec, says("HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n"), "warning", "answers 429"},
		"500":             {httpSpec, says("HTTP/1.1 500 Oh\r\nContent-Length: 9\r\n\r\nsecret!!!"), "critical", "answers 500 Internal Server Error"},
		"redirect":        {httpSpec, says("HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n"), "critical", "follows no redirect"},
		"garbage":         {httpSpec, says("SSH-2.0-OpenSSH_9.9\r\n"), "critical", "does not speak HTTP"},
		"hangs up":        {httpSpec, func(net.Conn) {}, "critical", "broke"},
		"refuses":         {httpSpec, nil, "critical", "connection refused"},
		"silent":          {httpSpec, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, "critical", "no answer within 500ms"},
		"endless body":    {httpSpec, endless("HTTP/1.1 200 OK\r\n\r\n"), "passing", "answers 200"},
		"endless headers": {httpSpec, endless("HTTP/1.1 200 OK\r\n"), "critical", "broke before an answer"},
		"tcp":             {checks.Spec{TCP: "10.0.0.1:5432", Interval: time.Second}, func(net.Conn) {}, "passing", "accepts"},
		"tcp refuses":     {checks.Spec{TCP: "10.0.0.1:5432", Interval: time.Second}, nil, "critical", "connection refused"},
		"grpc garbage":    {checks.Spec{GRPC: "10.0.0.1:5432", Interval: time.Second}, endless("hello"), "critical", ""},
		"grpc silent":     {checks.Spec{GRPC: "10.0.0.1:5432", Interval: time.Second}, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, "critical", "no answer within 1s"},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, c.spec, c.serve, func(k *checks.Checker, _ *target, _ *[]string) {
				time.Sleep(3 * time.Second)
				st := health(t, k)
				if st.Health != c.want || !strings.Contains(st.Output, c.text) || strings.Contains(st.Output, "secret") {
					t.Errorf("got %s, %q; want %s, %q", st.Health, st.Output, c.want, c.text)
				}
				if st.Checked.IsZero() {
					t.Error("no result")
				}
			})
		})
	}
}

// endless sends head and then never stops.
func endless(head string) func(net.Conn) {
	return func(c net.Conn) {
		r := bufio.NewReader(c)
		_, _ = http.ReadRequest(r)
		go func() { _, _ = io.Copy(io.Discard, r) }()
		for s := head; ; s = "X-Filler: " + strings.Repeat("x", 1000) + "\r\n" {
			if _, err := io.WriteString(c, s); err != nil {
				return
			}
		}
	}
}

// It takes Fall bad results to fall and Rise good ones to rise, and one change
// is told once.
func TestRiseAndFall(t *testing.T) {
	spec := checks.Spec{HTTP: "http://10.0.0.1/", Interval: time.Second, Rise: 2, Fall: 3}
	run(t, spec, says(ok), func(c *checks.Checker, s *target, changes *[]string) {
		if st := health(t, c); st.Health != "critical" {
			t.Errorf("before the first result: %s", st.Health)
		}
		time.Sleep(time.Second)
		if st := health(t, c); st.Health != "passing" {
			t.Fatalf("after the first good result: %s", st.Health)
		}
		count := func() int { s.mu.Lock(); defer s.mu.Unlock(); return len(s.dials) }
		until := func(want string) int {
			before := count()
			for range 1000 {
				if st := health(t, c); st.Health == want {
					return count() - before
				}
				time.Sleep(10 * time.Millisecond)
			}
			t.Fatalf("never %s", want)
			return 0
		}
		s.set(nil)
		if n := until("critical"); n != 3 {
			t.Errorf("fell after %d results, want 3", n)
		}
		s.set(says(ok))
		if n := until("passing"); n != 2 {
			t.Errorf("rose after %d results, want 2", n)
		}
		// Two bad ones, then a good one: the count begins anew.
		for range 3 {
			s.set(nil)
			for before := count(); count() < before+2; time.Sleep(10 * time.Millisecond) {
			}
			s.set(says(ok))
			for before := count(); count() < before+1; time.Sleep(10 * time.Millisecond) {
			}
		}
		if st := health(t, c); st.Health != "passing" {
			t.Errorf("fell without three bad results in a row: %s", st.Health)
		}
		if got := fmt.Sprint(*changes); got != "[passing critical passing]" {
			t.Errorf("told of %v", got)
		}
	})
}

func TestIntervalIsJittered(t *testing.T) {
	spec := checks.Spec{TCP: "10.0.0.1:1", Interval: 10 * time.Second}
	run(t, spec, func(net.Conn) {}, func(c *checks.Checker, s *target, _ *[]string) {
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		seen := map[time.Duration]bool{}
		for i := 1; i < len(s.dials); i++ {
			d := s.dials[i].Sub(s.dials[i-1])
			seen[d] = true
			if d < 9*time.Second || d > 11*time.Second {
				t.Errorf("%v between two checks", d)
			}
		}
		if len(s.dials) < 50 || len(seen) < len(s.dials)/2 {
			t.Errorf("%d checks at %d different intervals", len(s.dials), len(seen))
		}
	})
}

func TestTTL(t *testing.T) {
	run(t, checks.Spec{TTL: 30 * time.Second}, nil, func(c *checks.Checker, _ *target, changes *[]string) {
		if st := health(t, c); st.Health != "critical" || st.Output != "no sign of life yet" {
			t.Errorf("at first: %+v", st)
		}
		for range 10 {
			if err := c.Pass("web", checks.Passing, "fine"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(29 * time.Second)
			if st := health(t, c); st.Health != "passing" || st.Output != "fine" {
				t.Fatalf("29 s after a sign of life: %+v", st)
			}
		}
		time.Sleep(time.Second)
		if st := health(t, c); st.Health != "critical" || st.Output != "no sign of life for 30s" {
			t.Errorf("30 s after it: %+v", st)
		}
		if err := c.Pass("web", checks.Warning, "queue is long"); err != nil {
			t.Fatal(err)
		}
		if st := health(t, c); st.Health != "warning" {
			t.Errorf("after a warning: %+v", st)
		}
		if got := fmt.Sprint(*changes); got != "[passing critical warning]" {
			t.Errorf("told of %v", got)
		}
		if err := c.Pass("db", checks.Passing, ""); err != checks.ErrUnknown {
			t.Errorf("pass for nobody: %v", err)
		}
		if err := c.Set("tcp", checks.Spec{TCP: "10.0.0.1:1"}); err != nil {
			t.Fatal(err)
		}
		if err := c.Pass("tcp", checks.Passing, ""); err != checks.ErrNotTTL {
			t.Errorf("pass for a tcp check: %v", err)
		}
	})
}

// A hundred targets that never answer take 16 slots and no more, and a removed
// one says nothing any more.
func TestConcurrencyIsBounded(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
		var now, most atomic.Int64
		c := checks.Start(checks.Config{
			Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
				n := now.Add(1)
				defer now.Add(-1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				<-ctx.Done()
				return nil, ctx.Err()
			},
			OnChange: func(name string) { t.Errorf("%s changed", name) },
		})
		for i := range 100 {
			if err := c.Set(fmt.Sprintf("s%d", i), checks.Spec{TCP: "10.0.0.1:1"}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(5 * time.Minute)
		if most.Load() != 16 {
			t.Errorf("%d at one time, want 16", most.Load())
		}
		for i := range 100 {
			if st, _ := c.Status(fmt.Sprintf("s%d", i)); st.Checked.IsZero() {
				t.Fatalf("s%d has never had its turn", i)
			}
		}
		c.Remove("s1")
		if _, known := c.Status("s1"); known {
			t.Error("s1 is still checked")
		}
		c.Close()
		c.Close()
	})
}

func TestSetAgainKeepsAndReplaces(t *testing.T) {
	spec := checks.Spec{TCP: "10.0.0.1:1", Interval: time.Second}
	run(t, spec, func(net.Conn) {}, func(c *checks.Checker, _ *target, _ *[]string) {
		time.Sleep(time.Second)
		if err := c.Set("web", spec); err != nil {
			t.Fatal(err)
		}
		if st := health(t, c); st.Health != "passing" {
			t.Errorf("the same spec again: %s", st.Health)
		}
		spec.TCP = "10.0.0.1:2"
		if err := c.Set("web", spec); err != nil {
			t.Fatal(err)
		}
		if st := health(t, c); st.Health != "critical" || st.Target != "10.0.0.1:2" {
			t.Errorf("another spec: %+v", st)
		}
	})
}

func TestValidate(t *testing.T) {
	for want, s := range map[string]checks.Spec{
		"exactly one":           {},
		"2 kinds":               {TCP: "a:1", HTTP: "http://a"},
		"want a URL":            {HTTP: "ftp://a"},
		"no URL":                {HTTP: "http://a b/\x7f"},
		"user or password":      {HTTP: "http://me:secret@a/"},
		`port "0"`:              {TCP: "a:0"},
		`port "65536"`:          {TCP: "a:65536"},
		"want HOST:PORT":        {TCP: "a"},
		"no name of a gRPC":     {GRPC: "a:1/x y"},
		"ttl 1ms":               {TTL: time.Millisecond},
		"do not go with ttl":    {TTL: time.Minute, Fall: 3},
		"interval 1ms":          {TCP: "a:1", Interval: time.Millisecond},
		"interval -1s":          {TCP: "a:1", Interval: -time.Second},
		"timeout 1h0m0s":        {TCP: "a:1", Timeout: time.Hour},
		"rise -1":               {TCP: "a:1", Rise: -1},
		"fall 1000000000: want": {TCP: "a:1", Fall: 1e9},
	} {
		err := s.Validate()
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: %v, want %q", s, err, want)
		}
	}
	if err := (checks.Spec{Rise: -1, Fall: 101, Interval: -1}).Validate(); strings.Count(err.Error(), "\n") != 3 {
		t.Errorf("not all mistakes at once: %v", err)
	}
}
