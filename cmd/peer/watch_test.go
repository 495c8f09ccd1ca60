//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/peerhq/peer/agent"
	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/testcluster"
)

// startAgent runs an agent on loopback until the test ends.
func startAgent(t testing.TB, name string, edit func(*agent.Config)) *agent.Agent {
	t.Helper()
	c := agent.DefaultConfig()
	c.Name, c.Bind, c.HTTP.Addr = name, "127.0.0.1:0", "127.0.0.1:0"
	if edit != nil {
		edit(&c)
	}
	a, err := testcluster.OnFreedPort(func() (*agent.Agent, error) { return agent.Start(c) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Stop(context.Background()) })
	return a
}

func agentClient(t testing.TB, a *agent.Agent) *api.Client {
	t.Helper()
	c, err := api.NewClient(a.HTTPAddr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// register announces web at a port beside a.
func register(t testing.TB, a *agent.Agent, port int) {
	t.Helper()
	if err := agentClient(t, a).Register(t.Context(), "web", api.Registration{Port: uint16(port)}); err != nil {
		t.Fatal(err)
	}
}

func drain(t testing.TB, a *agent.Agent, off bool) {
	t.Helper()
	if err := agentClient(t, a).Drain(t.Context(), "web", !off); err != nil {
		t.Fatal(err)
	}
}

// peerWatch prepares `peer watch ARGS` at a, with r if there is one.
func peerWatch(t testing.TB, a *agent.Agent, r *testcluster.RedisServer, args ...string) *process {
	t.Helper()
	p := peerLock(t, r)
	p.Args = append([]string{"peer", "watch"}, args...)
	p.Env = append(p.Env, "PEER_HTTP_ADDR="+a.HTTPAddr())
	return p
}

// runs of a COMMAND that appends its input to a file, one a line.
type inputs struct {
	t    testing.TB
	path string
}

func newInputs(t testing.TB) inputs { return inputs{t, filepath.Join(t.TempDir(), "inputs")} }

// all returns the addresses that each run was given.
func (in inputs) all() []string {
	in.t.Helper()
	b, err := os.ReadFile(in.path)
	if err != nil {
		return nil
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		if !strings.HasSuffix(line, "\n") {
			break
		}
		var g api.ServiceGroup
		if err := json.Unmarshal([]byte(line), &g); err != nil || g.Name != "web" {
			in.t.Fatalf("COMMAND got %q, %v", line, err)
		}
		var run []string
		for _, i := range g.Instances {
			run = append(run, fmt.Sprintf("%s:%d", i.Addr, i.Port))
		}
		out = append(out, strings.Join(run, " "))
	}
	return out
}

// await waits until COMMAND has been run for want.
func (in inputs) await(want ...string) {
	in.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		got := in.all()
		if fmt.Sprintf("%q", got) == fmt.Sprintf("%q", want) {
			return
		}
		if time.Now().After(end) || len(got) > len(want) {
			in.t.Fatalf("COMMAND was run for %q, want %q", got, want)
		}
	}
}

func TestWatchFollows(t *testing.T) {
	t.Parallel()
	a := startAgent(t, "a", nil)
	in := newInputs(t)
	p := peerWatch(t, a, nil, "web", "--", "sh", "-c", `echo "$PEER_WATCH_SERVICE $PEER_WATCH_LIVE"; cat >>"$0"`, in.path).start()
	in.await("")
	register(t, a, 8080)
	in.await("", "127.0.0.1:8080")
	register(t, a, 8081)
	in.await("", "127.0.0.1:8080", "127.0.0.1:8081")
	register(t, a, 8081) // the same again
	drain(t, a, false)
	in.await("", "127.0.0.1:8080", "127.0.0.1:8081", "")
	drain(t, a, true)
	in.await("", "127.0.0.1:8080", "127.0.0.1:8081", "", "127.0.0.1:8081")
	if err := agentClient(t, a).Register(t.Context(), "other", api.Registration{Port: 1}); err != nil {
		t.Fatal(err)
	}
	if err := agentClient(t, a).Deregister(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	in.await("", "127.0.0.1:8080", "127.0.0.1:8081", "", "127.0.0.1:8081", "")
	_ = p.Process.Signal(syscall.SIGTERM)
	if code := p.code(); code != 143 || p.errOut.Len() > 0 {
		t.Errorf("code %d: %s", code, &p.errOut)
	}
	if got := p.out.String(); got != "web 0\nweb 1\nweb 1\nweb 0\nweb 1\nweb 0\n" {
		t.Errorf("its environment: %q", got)
	}
}

// readsThrough puts a proxy between p and its agent. It returns whether p has taken
// in an answer with what in it: it has asked for the service's next state since.
func readsThrough(t testing.TB, a *agent.Agent, p *process) (knows func(what string) bool) {
	t.Helper()
	var mu sync.Mutex
	var last, taken string
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: a.HTTPAddr()})
			if strings.HasPrefix(r.In.URL.Path, "/v1/services/") {
				mu.Lock()
				defer mu.Unlock()
				taken = last
			}
		},
		ModifyResponse: func(r *http.Response) error {
			if !strings.HasPrefix(r.Request.URL.Path, "/v1/services/") {
				return nil
			}
			body, err := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(body))
			mu.Lock()
			defer mu.Unlock()
			last = string(body)
			return err
		},
		ErrorLog: log.New(io.Discard, "", 0), // that p has ended
	})
	t.Cleanup(proxy.Close)
	p.Env = append(p.Env, "PEER_HTTP_ADDR="+proxy.Listener.Addr().String())
	return func(what string) bool {
		mu.Lock()
		defer mu.Unlock()
		return strings.Contains(taken, what)
	}
}

// Changes while COMMAND runs make one more run, with the last of them; one that
// comes and goes makes none.
func TestWatchCoalesces(t *testing.T) {
	t.Parallel()
	a := startAgent(t, "a", nil)
	register(t, a, 8000)
	in := newInputs(t)
	gate := filepath.Join(t.TempDir(), "gate")
	p := peerWatch(t, a, nil, "web", "--", "sh", "-c", `test -e "$1"; gate=$?; cat >>"$0"; while test $gate = 0 -a -e "$1"; do sleep 0.02; done`, in.path, gate)
	knows := readsThrough(t, a, p)
	p.start()
	in.await("127.0.0.1:8000")
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	register(t, a, 8001)
	in.await("127.0.0.1:8000", "127.0.0.1:8001")
	for port := 8002; port < 8006; port++ {
		register(t, a, port)
	}
	eventually(t, "it knows of the last", func() bool { return knows("8005") })
	if err := os.Remove(gate); err != nil {
		t.Fatal(err)
	}
	in.await("127.0.0.1:8000", "127.0.0.1:8001", "127.0.0.1:8005")
}

// A COMMAND that fails is run again until it does not, with what is then.
func TestWatchRunsAgain(t *testing.T) {
	t.Parallel()
	a := startAgent(t, "a", nil)
	register(t, a, 8000)
	in := newInputs(t)
	p := peerWatch(t, a, nil, "web", "--", "sh", "-c", `cat >>"$0"; test $(wc -l <"$0") -gt 2 || exit 4`, in.path).start()
	in.await("127.0.0.1:8000", "127.0.0.1:8000", "127.0.0.1:8000")
	register(t, a, 8001)
	in.await("127.0.0.1:8000", "127.0.0.1:8000", "127.0.0.1:8000", "127.0.0.1:8001")
	_ = p.Process.Signal(syscall.SIGINT)
	if code := p.code(); code != 130 || strings.Count(p.errOut.String(), "peer watch: COMMAND ended with 4; once more in ") != 2 {
		t.Errorf("code %d: %s", code, &p.errOut)
	}
}

// Of a fleet that shares a lock one at a time runs COMMAND.
func TestWatchOneHostAtATime(t *testing.T) {
	t.Parallel()
	r := testcluster.StartAnyRedis(t)
	a := startAgent(t, "a", nil)
	b := startAgent(t, "b", func(c *agent.Config) { c.Join = []string{a.GossipAddr()} })
	d := newDiary(t)
	script := `echo in $PEER_LOCK_FENCE >>"$0"; sleep 0.1; echo out $PEER_LOCK_FENCE >>"$0"`
	for _, at := range []*agent.Agent{a, b, a, b} {
		peerWatch(t, at, r, "--lock", "reload", "web", "--", "sh", "-c", script, d.path).start()
	}
	eventually(t, "each has begun", func() bool { return len(d.lines()) == 4*4 })
	register(t, a, 8000)
	eventually(t, "each has followed", func() bool { return len(d.lines()) == 8*4 })
	last := ""
	for i := 0; i < 32; i += 4 {
		run := d.lines()[i : i+4]
		if run[0] != "in" || run[2] != "out" || run[1] != run[3] || run[1] == last {
			t.Errorf("two at a time: %v", d.lines())
			break
		}
		last = run[1]
	}
}

// Without the Redis nobody holds the lock, and COMMAND waits: one that runs is
// stopped, and run again when the Redis is back.
func TestWatchOutlivesRedis(t *testing.T) {
	t.Parallel()
	r := testcluster.StartAnyRedis(t)
	a := startAgent(t, "a", nil)
	register(t, a, 8000)
	in, pids := newInputs(t), newDiary(t)
	gate := filepath.Join(t.TempDir(), "gate")
	p := peerWatch(t, a, r, "--lock", "reload", "--ttl", "2s", "--grace", "100ms", "web", "--", "sh", "-c",
		`test -e "$2"; gate=$?; cat >>"$0"; echo $$ >>"$1"; test $gate != 0 || exec sleep 1000`, in.path, pids.path, gate)
	knows := readsThrough(t, a, p)
	p.start()
	in.await("127.0.0.1:8000")
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	register(t, a, 8001)
	second := pids.await(2)
	r.Cut()
	eventually(t, "COMMAND is stopped", func() bool { return !runs(second) })
	if err := os.Remove(gate); err != nil {
		t.Fatal(err)
	}
	register(t, a, 8002)
	eventually(t, "it knows of the last", func() bool { return knows("8002") })
	r.Heal()
	in.await("127.0.0.1:8000", "127.0.0.1:8001", "127.0.0.1:8002")
	_ = p.Process.Signal(syscall.SIGTERM)
	if code := p.code(); code != 143 || !strings.Contains(p.errOut.String(), "COMMAND was stopped; once more in ") {
		t.Errorf("code %d: %s", code, &p.errOut)
	}
}

// An agent that is started again, alone at first, empties no list.
func TestWatchStaysWithWhatItKnows(t *testing.T) {
	t.Parallel()
	b := startAgent(t, "b", nil)
	register(t, b, 8000)
	addr := freeAddr()
	begin := func(seed string) *agent.Agent {
		return startAgent(t, "a", func(c *agent.Config) { c.HTTP.Addr, c.Join = addr, []string{seed} })
	}
	a := begin(b.GossipAddr())
	in := newInputs(t)
	eventually(t, "a knows of web", func() bool {
		g, err := agentClient(t, a).Service(t.Context(), "web", api.ServicesQuery{})
		return err == nil && g.Eligible == 1
	})
	said := filepath.Join(t.TempDir(), "said")
	stderr, err := os.Create(said)
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	var before int64 // of what it has said
	says := func(what string) func() bool {
		return func() bool { b, _ := os.ReadFile(said); return strings.Contains(string(b[before:]), what) }
	}
	mark := func() {
		fi, err := stderr.Stat()
		if err != nil {
			t.Fatal(err)
		}
		before = fi.Size()
	}
	p := peerWatch(t, a, nil, "web", "--", "sh", "-c", `cat >>"$0"`, in.path)
	p.Stderr = stderr
	p.start()
	in.await("127.0.0.1:8000")
	if err := a.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	a = begin(b.GossipAddr())
	register(t, b, 8001)
	in.await("127.0.0.1:8000", "127.0.0.1:8001")
	mark()
	a.Kill()
	eventually(t, "it says so", says("COMMAND is left alone until it answers"))
	a = begin(freeAddr())
	eventually(t, "it does not believe one that knows of nobody", says("has not joined"))
	if got := in.all(); len(got) != 2 {
		t.Errorf("COMMAND was run for %q", got)
	}
	mark()
	a.Kill()
	begin(b.GossipAddr())
	eventually(t, "it says that it is back", says("the agent answers again"))
	register(t, b, 8002)
	in.await("127.0.0.1:8000", "127.0.0.1:8001", "127.0.0.1:8002")
	_ = p.Process.Signal(syscall.SIGTERM)
	if code := p.code(); code != 143 {
		t.Errorf("code %d", code)
	}
}

func TestWatchHeedsSignals(t *testing.T) {
	t.Parallel()
	a := startAgent(t, "a", nil)
	d := newDiary(t)
	p := peerWatch(t, a, nil, "web", "--", "sh", "-c", `trap 'echo 2 >>"$0"; exit 3' TERM; echo 1 >>"$0"; while :; do sleep 0.02; done`, d.path).start()
	d.await(1)
	_ = p.Process.Signal(syscall.SIGTERM)
	if code := p.code(); code != 143 || strings.Join(d.lines(), "") != "12" {
		t.Errorf("while COMMAND runs: code %d, %v: %s", code, d.lines(), &p.errOut)
	}
	// While it waits for its splay.
	in := newInputs(t)
	p = peerWatch(t, a, nil, "--splay", "1000h", "web", "--", "sh", "-c", `cat >>"$0"`, in.path).start()
	in.await("")
	register(t, a, 8000)
	time.Sleep(200 * time.Millisecond) // it hears of it, or not yet: both are well
	_ = p.Process.Signal(syscall.SIGTERM)
	if code := p.code(); code != 143 || len(in.all()) != 1 {
		t.Errorf("during its splay: code %d, %v: %s", code, in.all(), &p.errOut)
	}
	// When peer is killed COMMAND does not go on.
	pids := newDiary(t)
	p = peerWatch(t, a, nil, "web", "--", "sh", "-c", `echo $$ >>"$0"; exec sleep 1000`, pids.path).start()
	pid := pids.await(1)
	_ = p.Process.Kill()
	p.code()
	eventually(t, "COMMAND is dead", func() bool { return !runs(pid) })
}

func TestWatchOnce(t *testing.T) {
	t.Parallel()
	r := testcluster.StartAnyRedis(t)
	a := startAgent(t, "a", nil)
	register(t, a, 8000)
	p := peerWatch(t, a, r, "--once", "--lock", "x", "web", "--", "sh", "-c", `cat; test -z "$PEER_REDIS_URL"`)
	if code := p.run(); code != 0 || !strings.HasPrefix(p.out.String(), `{"name":"web",`) || !strings.Contains(p.out.String(), `"port":8000`) {
		t.Errorf("code %d, %s: %s", code, &p.out, &p.errOut)
	}
	for _, c := range []struct {
		args []string
		want int
		says string
	}{
		{[]string{"--once", "web", "--", "sh", "-c", "exit 9"}, 9, ""},
		{[]string{"--once", "web", "--", "sh", "-c", "kill -9 $$"}, 137, ""},
		{[]string{"web", "--", "no-such-command"}, exitNotFound, "watch: COMMAND no-such-command was not found"},
		{[]string{"web", "--", "/etc/hostname"}, exitNotRunnable, "watch: COMMAND"},
		{[]string{"web", "true"}, exitUsage, "usage: peer watch"},
		{[]string{"--", "true"}, exitUsage, "SERVICE"},
		{[]string{"web", "--"}, exitUsage, "COMMAND is missing"},
		{[]string{"web", "db", "--", "true"}, exitUsage, "not also"},
		{[]string{"--splay", "-1s", "web", "--", "true"}, exitUsage, "--splay"},
		{[]string{"--ttl", "3s", "web", "--", "true"}, exitUsage, "--ttl goes with --lock"},
		{[]string{"--lock", "", "web", "--", "true"}, exitUsage, "empty"},
		{[]string{"--lock", "a\x01", "web", "--", "true"}, exitUsage, "control characters"},
		{[]string{"--redis", "redis://" + freeAddr(), "--lock", "x", "web", "--", "true"}, exitUnavailable, "watch: redis"},
		{[]string{"--addr", freeAddr(), "web", "--", "true"}, exitUnavailable, "no agent answers"},
	} {
		p := peerWatch(t, a, r, c.args...)
		if got := p.run(); got != c.want || !strings.Contains(p.errOut.String(), c.says) {
			t.Errorf("%q: got code %d, %s; want %d that says %q", c.args, got, &p.errOut, c.want, c.says)
		}
	}
}

// COMMAND may read its input or not, however long it is.
func TestFeed(t *testing.T) {
	body := bytes.Repeat([]byte("x"), 1<<20)
	r, done, err := feed(body)
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if _, err := got.ReadFrom(r); err != nil || !bytes.Equal(got.Bytes(), body) {
		t.Errorf("read %d bytes, %v", got.Len(), err)
	}
	done()
	if _, done, err = feed(body); err != nil {
		t.Fatal(err)
	}
	done() // and returns
}
