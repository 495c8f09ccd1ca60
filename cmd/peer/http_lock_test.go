//go:build linux

package main

import (
	"context"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/peerhq/peer/agent"
	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/testcluster"
)

// lockAgent runs an agent with this Redis and returns where it is asked.
func lockAgent(t testing.TB, r *testcluster.RedisServer) string {
	t.Helper()
	cfg := agent.DefaultConfig()
	cfg.Name, cfg.Bind, cfg.HTTP.Addr = "a", "127.0.0.1:0", "127.0.0.1:0"
	cfg.Redis.URL = "redis://" + r.Addr()
	a, err := agent.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Stop(context.Background()) })
	return a.HTTPAddr()
}

// script prepares one of testdata/http, in its own language.
func script(t testing.TB, addr string, args ...string) *process {
	t.Helper()
	program, file := "sh", "lock.sh"
	if args[0] == "python" {
		program, file = "python3", "lock.py"
	}
	p := peerLock(t, nil)
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatal(err)
	}
	p.Path, p.Args = path, append([]string{program, filepath.Join("testdata", "http", file)}, args[1:]...)
	p.Env = append(p.Env, "PEER_HTTP_ADDR="+addr)
	return p
}

func needLanguages(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		testcluster.Unavailable(t, "curl", "no curl on the PATH: a lock taken from a shell is not tested")
	}
	if err := exec.Command("python3", "-c", "pass").Run(); err != nil {
		testcluster.Unavailable(t, "python", "no python3 that runs: a lock taken from Python is not tested")
	}
}

// A shell with curl, a Python program and peer lock take one lock in turn, in the
// order in which they asked.
func TestOneLockInThreeLanguages(t *testing.T) {
	t.Parallel()
	needLanguages(t)
	r := testcluster.StartAnyRedis(t)
	addr := lockAgent(t, r)
	c := lockClient(t, r)
	const name = "a/b {c}"
	held, err := c.Acquire(context.Background(), name)
	if err != nil {
		t.Fatal(err)
	}
	d := newDiary(t)
	note := func(who, fence string) []string {
		return []string{"sh", "-c", "echo " + who + "-in-$" + fence + ` >>"$0"; sleep 0.2; echo ` + who + `-out >>"$0"`, d.path}
	}
	order := []string{"python", "shell", "peer", "shell", "peer", "python"}
	var all []*process
	for i, who := range order {
		var p *process
		switch who {
		case "peer":
			p = peerLock(t, r, append([]string{name, "--"}, note(who, "PEER_LOCK_FENCE")...)...)
		case "shell":
			p = script(t, addr, append([]string{who, "a%2Fb%20%7Bc%7D"}, note(who, "FENCE")...)...)
		default:
			p = script(t, addr, append([]string{who, name}, note(who, "FENCE")...)...)
		}
		all = append(all, p.start())
		eventually(t, who+" waits", func() bool { return len(inspect(t, c, name).Waiters) == i+1 })
	}
	for i, w := range inspect(t, c, name).Waiters {
		if want := map[string]string{"python": "lock.py", "shell": "lock.sh", "peer": "sh"}[order[i]]; w.Command != want || w.PID != all[i].Process.Pid {
			t.Errorf("waiter %d is %s %d, want %s %d", i+1, w.Command, w.PID, want, all[i].Process.Pid)
		}
	}
	if err := held.Release(context.Background()); err != nil {
		t.Fatal(err)
	}
	last := held.Fence()
	for i, p := range all {
		if got := p.code(); got != 0 {
			t.Errorf("%s ends with %d: %s%s", order[i], got, &p.out, &p.errOut)
		}
	}
	lines := d.lines()
	if len(lines) != 2*len(order) {
		t.Fatalf("the diary says %v", lines)
	}
	for i, who := range order {
		in, fence, _ := strings.Cut(lines[2*i], "-in-")
		n, err := strconv.ParseUint(fence, 10, 64)
		if in != who || err != nil || n <= last || lines[2*i+1] != who+"-out" {
			t.Errorf("turn %d: %v after fence %d, want %s", i+1, lines[2*i:2*i+2], last, who)
		}
		last = n
	}
}

// Whoever holds a lock over HTTP and is killed has lost it: with its connection,
// or when its lease runs out.
func TestKilledOverHTTP(t *testing.T) {
	t.Parallel()
	needLanguages(t)
	r := testcluster.StartAnyRedis(t)
	addr := lockAgent(t, r)
	c := lockClient(t, r)
	for _, tt := range []struct {
		language string
		within   time.Duration
	}{
		{"python", 4 * time.Second}, // sooner than by its lease
		{"shell", 6*time.Second + 5*time.Second},
	} {
		out := filepath.Join(t.TempDir(), "out")
		p := script(t, addr, tt.language, tt.language, "sh", "-c", `echo ready >"$0"; exec sleep 60`, out)
		p.Stdout, p.Stderr = nil, nil // what it leaves behind must not keep a pipe of ours open
		p.start()
		eventually(t, tt.language+" holds it", holds(t, out, "ready\n"))
		start := time.Now()
		_ = syscall.Kill(-p.Process.Pid, syscall.SIGKILL)
		l, err := c.Acquire(t.Context(), tt.language)
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > tt.within {
			t.Errorf("%s: the next one had it after %v", tt.language, took)
		}
		_ = l.Release(t.Context())
	}
}

// Whoever loses it is told, and stops its work.
func TestTakenByForceOverHTTP(t *testing.T) {
	t.Parallel()
	needLanguages(t)
	r := testcluster.StartAnyRedis(t)
	addr := lockAgent(t, r)
	c := lockClient(t, r)
	for _, language := range []string{"python", "shell"} {
		d := newDiary(t)
		p := script(t, addr, language, language, "sh", "-c", `echo $$ >>"$0"; exec sleep 60`, d.path).start()
		work := d.await(1)
		time.Sleep(200 * time.Millisecond) // it listens by then
		if _, err := c.ForceRelease(t.Context(), language); err != nil {
			t.Fatal(err)
		}
		if got := p.code(); got != exitLost {
			t.Errorf("%s ends with %d: %s", language, got, &p.errOut)
		}
		if runs(work) {
			t.Errorf("%s: its work goes on", language)
		}
	}
	// Without an agent, and without a Redis behind it.
	p := script(t, freeAddr(), "shell", "demo", "true")
	if got := p.run(); got != 75 {
		t.Errorf("no agent: code %d: %s", got, &p.errOut)
	}
	r.Kill()
	p = script(t, addr, "shell", "demo", "true")
	if got := p.run(); got != 75 || !strings.Contains(p.errOut.String(), "urn:peer:error:redis") {
		t.Errorf("no Redis: code %d: %s", got, &p.errOut)
	}
}

// One set of names for the command line, the routes of the agent and Go: what one
// takes, the others see and take away.
func TestLockNamesInEveryFace(t *testing.T) {
	t.Parallel()
	r := testcluster.StartAnyRedis(t)
	addr := lockAgent(t, r)
	over, err := api.NewClient(addr)
	if err != nil {
		t.Fatal(err)
	}
	direct := lockClient(t, r)
	verb := func(name string, args ...string) *process {
		p := peerLock(t, r)
		p.Args = append([]string{"peer", name}, args...)
		p.Env = append(p.Env, "PEER_HTTP_ADDR="+addr)
		return p
	}
	for _, name := range []string{".", "..", "...", "a/b", "/", "a/../b", "./a", "a//b", " x", "a b ", "%2E", "a?b#c", "{x}", "hold", "ü"} {
		lease, err := over.Acquire(t.Context(), name, api.LockOptions{})
		if err != nil {
			t.Errorf("%q over HTTP: %v", name, err)
			continue
		}
		if info := inspect(t, direct, name); info.Fence != lease.Fence || info.Holder == nil {
			t.Errorf("%q in Go: %+v, want fence %d", name, info, lease.Fence)
		}
		if lease, err = over.Renew(t.Context(), lease); err != nil {
			t.Errorf("%q: renew over HTTP: %v", name, err)
		}
		if l, err := over.Lock(t.Context(), name); err != nil || l.Name != name || l.Holder == nil {
			t.Errorf("%q: look over HTTP: %+v, %v", name, l, err)
		}
		if p := verb("lock", "--wait", "0", name, "--", "true"); p.run() != exitTimeout {
			t.Errorf("peer lock %q beside the holder: got %s", name, &p.errOut)
		}
		if p := verb("locks", "-o", "name", name); p.run() != 0 || strings.TrimSpace(p.out.String()) != strings.TrimSpace(name) {
			t.Errorf("peer locks %q: got %q %s", name, &p.out, &p.errOut)
		}
		if p := verb("unlock", "--force", name); p.run() != 0 {
			t.Errorf("peer unlock %q: %s", name, &p.errOut)
		}
		if p := verb("lock", "--wait", "0", name, "--", "true"); p.run() != 0 {
			t.Errorf("peer lock %q: %s", name, &p.errOut)
		}
	}
}
