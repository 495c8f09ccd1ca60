//go:build linux

package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/peerhq/peer/lockclient"
	"github.com/peerhq/peer/testcluster"
)

// A process is `peer lock …`, run as a process of its own.
type process struct {
	*exec.Cmd
	t           testing.TB
	out, errOut bytes.Buffer
	ended       chan struct{}
}

// peerLock prepares `peer lock ARGS` on r, in the test's directory.
func peerLock(t testing.TB, r *testcluster.RedisServer, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command("peer", append([]string{"lock"}, args...)...), t: t, ended: make(chan struct{})}
	p.Env = []string{
		"PATH=" + os.Getenv("PATH"), "GORACE=" + os.Getenv("GORACE"), "HOME=" + os.Getenv("HOME"),
		"PEER_CONFIG=" + emptyFile(t), "PEER_HTTP_ADDR=" + freeAddr(), "PEER_NAME=here",
	}
	if r != nil {
		p.Env = append(p.Env, "PEER_REDIS_URL=redis://"+r.Addr())
	}
	p.Stdout, p.Stderr = &p.out, &p.errOut
	p.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.WaitDelay = 5 * time.Second
	return p
}

func (p *process) start() *process {
	p.t.Helper()
	if err := p.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func() { _ = p.Wait(); close(p.ended) }()
	p.t.Cleanup(func() {
		_ = p.Process.Kill()
		<-p.ended
	})
	return p
}

// code waits for the end and returns the exit code, or 128 + the signal.
func (p *process) code() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(30 * time.Second):
		p.t.Fatalf("%v does not end; it says %s", p.Args, &p.errOut)
	}
	if ws := p.ProcessState.Sys().(syscall.WaitStatus); ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return p.ProcessState.ExitCode()
}

func (p *process) run() int { p.t.Helper(); return p.start().code() }

func lockClient(t testing.TB, r *testcluster.RedisServer) *lockclient.Client {
	t.Helper()
	c, err := lockclient.Start(lockclient.Config{URL: "redis://" + r.Addr(), Node: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func inspect(t testing.TB, c *lockclient.Client, name string) lockclient.Info {
	t.Helper()
	info, err := c.Inspect(context.Background(), name)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func holds(t testing.TB, path, want string) func() bool {
	return func() bool { b, _ := os.ReadFile(path); return string(b) == want }
}

func number(t testing.TB, path string) int {
	t.Helper()
	n := 0
	eventually(t, "a number in "+path, func() bool {
		b, _ := os.ReadFile(path)
		var err error
		n, err = strconv.Atoi(strings.TrimSpace(string(b)))
		return err == nil && bytes.HasSuffix(b, []byte("\n"))
	})
	return n
}

// runs does not count a zombie, which runs nothing any more.
func runs(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	return f[0] != "Z" && f[0] != "X"
}

func TestLockEndsAsCommandEnds(t *testing.T) {
	r := testcluster.StartAnyRedis(t)
	for _, c := range []struct {
		command []string
		want    int
	}{
		{[]string{"true"}, 0},
		{[]string{"sh", "-c", "exit 3"}, 3},
		{[]string{"sh", "-c", "exit 75"}, 75},
		{[]string{"sh", "-c", "exit 255"}, 255},
		{[]string{"sh", "-c", "kill -9 $$"}, 137},
		{[]string{"sh", "-c", "kill -INT $$"}, 130},
		{[]string{"no-such-command"}, 127},
		{[]string{"/no/such/command"}, 127},
		{[]string{"/etc/hostname"}, 126},
		{[]string{"/etc"}, 126},
	} {
		p := peerLock(t, r, append([]string{"demo", "--"}, c.command...)...)
		if got := p.run(); got != c.want {
			t.Errorf("%v: got code %d, want %d; it says %s", c.command, got, c.want, &p.errOut)
		}
		if said := p.errOut.Len() > 0; said != (c.want == 126 || c.want == 127) {
			t.Errorf("%v: it says %q", c.command, &p.errOut)
		}
	}
	if info := inspect(t, lockClient(t, r), "demo"); info.Holder != nil {
		t.Errorf("held by %v afterwards", info.Holder)
	}
}

func TestLockCommandSees(t *testing.T) {
	r := testcluster.StartAnyRedis(t)
	var fences []int
	for range 2 {
		p := peerLock(t, r, "demo", "--", "sh", "-c", `cat; echo "$PEER_LOCK_NAME"; echo "$PEER_LOCK_FENCE"; env; echo "[$1]"; echo err >&2`, "sh", "a  b\xff")
		p.Env = append(p.Env, "PEER_REDIS_PASSWORD=secret", "PEER_HTTP_TOKEN=secret", "PEER_REDIS_PASSWORD_FILE=", "MY_PASSWORD=mine", "PEER_LOCK_FENCE=old")
		p.Stdin = strings.NewReader("from stdin\n")
		if code := p.run(); code != 0 {
			t.Fatalf("code %d: %s", code, &p.errOut)
		}
		lines := strings.Split(p.out.String(), "\n")
		if lines[0] != "from stdin" || lines[1] != "demo" {
			t.Errorf("got %q", lines[:2])
		}
		fence, err := strconv.Atoi(lines[2])
		if err != nil {
			t.Errorf("fence %q", lines[2])
		}
		fences = append(fences, fence)
		if !strings.Contains(p.out.String(), "[a  b\xff]\n") {
			t.Error("the arguments are not as they were given")
		}
		for _, bad := range []string{"secret", "PEER_REDIS_URL", "PEER_LOCK_GUARD", "PEER_LOCK_FENCE=old"} {
			if strings.Contains(p.out.String(), bad) {
				t.Errorf("%s is in COMMAND's environment", bad)
			}
		}
		if !strings.Contains(p.out.String(), "MY_PASSWORD=mine\n") {
			t.Error("a variable that is not ours was taken out")
		}
		if p.errOut.String() != "err\n" {
			t.Errorf("stderr %q", &p.errOut)
		}
	}
	if fences[1] <= fences[0] {
		t.Errorf("fences %v do not rise", fences)
	}
}

func TestLockNotObtained(t *testing.T) {
	r := testcluster.StartAnyRedis(t)
	held, err := lockClient(t, r).Acquire(context.Background(), "demo", lockclient.WithCommand("backup"))
	if err != nil {
		t.Fatal(err)
	}
	ran := filepath.Join(t.TempDir(), "ran")
	for _, c := range []struct {
		flags []string
		want  int
	}{
		{[]string{"--wait", "0"}, 75},
		{[]string{"--wait", "0", "--exit-on-timeout", "0"}, 0},
		{[]string{"--wait", "2s"}, 75},
		{[]string{"--wait", "2s", "--exit-on-timeout", "9"}, 9},
	} {
		start := time.Now()
		p := peerLock(t, r, append(c.flags, "demo", "--", "touch", ran)...)
		if got := p.run(); got != c.want {
			t.Errorf("%v: got code %d, want %d", c.flags, got, c.want)
		}
		if s := p.errOut.String(); !strings.Contains(s, "held by test (pid "+strconv.Itoa(os.Getpid())+", backup)") || strings.Count(s, "\n") != 1 {
			t.Errorf("%v: it says %q", c.flags, s)
		}
		if d := time.Since(start); d > 12*time.Second {
			t.Errorf("%v: took %v", c.flags, d)
		}
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("COMMAND ran")
	}
	if n := len(inspect(t, lockClient(t, r), "demo").Waiters); n != 0 {
		t.Errorf("%d are left in the queue", n)
	}
	if err := held.Release(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := peerLock(t, r, "--wait", "0", "demo", "--", "touch", ran).run(); got != 0 {
		t.Errorf("free: got code %d", got)
	}
}

func TestLockRedisOutOfReach(t *testing.T) {
	p := peerLock(t, nil, "demo", "--", "true")
	if got := p.run(); got != 69 || !strings.Contains(p.errOut.String(), "no Redis is set") {
		t.Errorf("no setting: got code %d: %s", got, &p.errOut)
	}
	p = peerLock(t, nil, "--redis", "redis://"+freeAddr(), "demo", "--", "true")
	if got := p.run(); got != 69 || !strings.Contains(p.errOut.String(), "refused") {
		t.Errorf("refused: got code %d: %s", got, &p.errOut)
	}
	p = peerLock(t, nil, "demo", "--", "true")
	p.Env = append(p.Env, "PEER_REDIS_URL=bad://x")
	if got := p.run(); got != 78 {
		t.Errorf("bad URL: got code %d: %s", got, &p.errOut)
	}
	r := testcluster.StartRedis(t, "--requirepass", "secret")
	p = peerLock(t, r, "demo", "--", "true")
	if got := p.run(); got != 77 || !strings.Contains(p.errOut.String(), "password") {
		t.Errorf("no password: got code %d: %s", got, &p.errOut)
	}
	p = peerLock(t, nil, "demo", "--", "true")
	p.Env = append(p.Env, "PEER_REDIS_URL=redis://:wrong@"+r.Addr())
	if got := p.run(); got != 77 || strings.Contains(p.errOut.String(), "wrong@") {
		t.Errorf("wrong password: got code %d: %s", got, &p.errOut)
	}
	p = peerLock(t, nil, "demo", "--", "true")
	p.Env = append(p.Env, "PEER_REDIS_URL=redis://:secret@"+r.Addr())
	if got := p.run(); got != 0 {
		t.Errorf("right password: got code %d: %s", got, &p.errOut)
	}
}

// A Redis that does not answer is no holder: nobody skips the work in silence, and
// nobody waits long to hear of it.
func TestLockSilentRedisIsNotHeld(t *testing.T) {
	r := testcluster.StartAnyRedis(t)
	r.Stall()
	t.Cleanup(r.Heal)
	for _, flags := range [][]string{
		{"--wait", "0", "--exit-on-timeout", "0"},
		{"--wait", "10ms", "--exit-on-timeout", "0"},
		{"--wait", "1s", "--exit-on-timeout", "0"},
		{"--wait", "2s"},
	} {
		start := time.Now()
		p := peerLock(t, r, append(flags, "demo", "--", "true")...)
		if got := p.run(); got != exitUnavailable || !strings.Contains(p.errOut.String(), "no answer for") {
			t.Errorf("%v: got code %d, want %d; it says %s", flags, got, exitUnavailable, &p.errOut)
		}
		if d := time.Since(start); d > 3*time.Second {
			t.Errorf("%v: took %v", flags, d)
		}
	}
}

// A wait that is shorter than the way to Redis still learns of the holder.
func TestLockShortWaitOverALongWay(t *testing.T) {
	r := testcluster.StartAnyRedis(t)
	if _, err := lockClient(t, r).Acquire(context.Background(), "demo"); err != nil {
		t.Fatal(err)
	}
	r.Slow(200 * time.Millisecond)
	t.Cleanup(r.Heal)
	for wait, want := range map[string]int{"0": exitTimeout, "10ms": exitTimeout} {
		p := peerLock(t, r, "--wait", wait, "demo", "--", "true")
		if got := p.run(); got != want || !strings.Contains(p.errOut.String(), "held by test") {
			t.Errorf("--wait %s: got code %d, want %d; it says %s", wait, got, want, &p.errOut)
		}
	}
}

// A grant that too few replicas know of is none.
func TestLockWaitsForReplicas(t *testing.T) {
	r := testcluster.StartRedis(t)
	ran := filepath.Join(t.TempDir(), "ran")
	p := peerLock(t, r, "--wait-replicas", "1", "--ttl", "4s", "demo", "--", "touch", ran)
	if got := p.run(); got != exitUnavailable || !strings.Contains(p.errOut.String(), "demo was given back: lock not replicated: 0 of 1 replicas") {
		t.Errorf("got code %d: %s", got, &p.errOut)
	}
	p = peerLock(t, r, "demo", "--", "touch", ran)
	p.Env = append(p.Env, "PEER_REDIS_WAIT_REPLICAS=-1")
	if got := p.run(); got != exitConfig {
		t.Errorf("a negative number: got code %d: %s", got, &p.errOut)
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("COMMAND ran")
	}
	if info := inspect(t, lockClient(t, r), "demo"); info.Holder != nil {
		t.Errorf("held by %v afterwards", info.Holder)
	}
}

// A signal while waiting leaves the queue, and COMMAND never starts.
func TestLockSignalWhileWaiting(t *testing.T) {
	r := testcluster.StartAnyRedis(t)
	c := lockClient(t, r)
	held, err := c.Acquire(context.Background(), "demo")
	if err != nil {
		t.Fatal(err)
	}
	ran := filepath.Join(t.TempDir(), "ran")
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
		p := peerLock(t, r, "demo", "--", "touch", ran).start()
		eventually(t, "it waits", func() bool { return len(inspect(t, c, "demo").Waiters) == 1 })
		start := time.Now()
		_ = p.Process.Signal(s)
		if got := p.code(); got != 128+int(s) {
			t.Errorf("%v: got code %d: %s", s, got, &p.errOut)
		}
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("%v: took %v", s, d)
		}
		if n := len(inspect(t, c, "demo").Waiters); n != 0 {
			t.Errorf("%v: %d are left in the queue", s, n)
		}
		if p.errOut.Len() > 0 {
			t.Errorf("%v: it says %q, where no terminal is", s, &p.errOut)
		}
	}
	if err := held.Release(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("COMMAND ran")
	}
}

// A signal while running goes to COMMAND's group, once, and COMMAND decides.
func TestLockSignalWhileRunning(t *testing.T) {
	r := testcluster.StartAnyRedis(t)
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2} {
		out := filepath.Join(t.TempDir(), "out")
		script := `trap 'echo got >>"$0"; test "$(wc -l <"$0")" = 3 && exit 7' INT TERM HUP QUIT USR1 USR2; echo ready >>"$0"; while :; do sleep 0.02; done`
		p := peerLock(t, r, "demo", "--", "sh", "-c", script, out).start()
		eventually(t, "COMMAND runs", holds(t, out, "ready\n"))
		_ = p.Process.Signal(s)
		eventually(t, "the signal arrives", holds(t, out, "ready\ngot\n"))
		_ = p.Process.Signal(s)
		if got := p.code(); got != 7 {
			t.Errorf("%v: got code %d: %s", s, got, &p.errOut)
		}
		if !holds(t, out, "ready\ngot\ngot\n")() {
			b, _ := os.ReadFile(out)
			t.Errorf("%v: COMMAND noted %q", s, b)
		}
	}
}

// nohup: what peer was started to ignore, COMMAND ignores too.
func TestLockIgnoredSignalStaysIgnored(t *testing.T) {
	r := testcluster.StartAnyRedis(t)
	p := peerLock(t, r)
	p.Path, _ = exec.LookPath("sh")
	p.Args = []string{"sh", "-c", `trap '' HUP; exec peer lock demo -- sh -c 'grep SigIgn /proc/$$/status'`}
	if got := p.run(); got != 0 {
		t.Fatalf("code %d: %s", got, &p.errOut)
	}
	mask, err := strconv.ParseUint(strings.Fields(p.out.String())[1], 16, 64)
	if err != nil || mask != 1<<(uint(syscall.SIGHUP)-1) {
		t.Errorf("COMMAND ignores %q, want SIGHUP alone", &p.out)
	}
}

func TestLockContendersInOrder(t *testing.T) {
	r := testcluster.StartAnyRedis(t)
	c := lockClient(t, r)
	held, err := c.Acquire(context.Background(), "demo")
	if err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(t.TempDir(), "log")
	var all []*process
	for i := range 4 {
		all = append(all, peerLock(t, r, "demo", "--", "sh", "-c", fmt.Sprintf(`echo %d in $PEER_LOCK_FENCE >>%s; sleep 0.05; echo %d out >>%[2]s`, i, log, i)).start())
		eventually(t, "it waits", func() bool { return len(inspect(t, c, "demo").Waiters) == i+1 })
	}
	if err := held.Release(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if got := p.code(); got != 0 {
			t.Errorf("code %d: %s", got, &p.errOut)
		}
	}
	b, _ := os.ReadFile(log)
	last := 0
	for i, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		f := strings.Fields(line)
		if f[0] != strconv.Itoa(i/2) || f[1] != []string{"in", "out"}[i%2] {
			t.Fatalf("line %d of %q", i, b)
		}
		if len(f) == 3 {
			fence, _ := strconv.Atoi(f[2])
			if fence <= last {
				t.Errorf("fence %d after %d", fence, last)
			}
			last = fence
		}
	}
}

// stubborn is a COMMAND that will not stop: it, a child and a grandchild in a
// session of its own trap TERM. Each writes its process id into $0.
const stubborn = `trap '' TERM INT HUP
setsid sh -c 'trap "" TERM INT HUP; echo $$ >$0/far; while :; do sleep 1; done' $0 &
sh -c 'trap "" TERM INT HUP; echo $$ >$0/child; while :; do sleep 1; done' $0 &
echo $$ >$0/command
while :; do sleep 1; done`

// family starts stubborn under a lock and returns its three processes.
func family(t *testing.T, r *testcluster.RedisServer, flags ...string) (*process, []int) {
	t.Helper()
	dir := t.TempDir()
	p := peerLock(t, r, append(flags, "demo", "--", "sh", "-c", stubborn, dir)...)
	p.Stdout, p.Stderr = nil, nil // its orphans must not keep a pipe of ours open
	p.start()
	pids := []int{number(t, dir+"/command"), number(t, dir+"/child"), number(t, dir+"/far")}
	t.Cleanup(func() {
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return p, pids
}

// next waits for the lock and then notes, as its first act, which of pids run.
func next(t *testing.T, r *testcluster.RedisServer, pids []int) *process {
	t.Helper()
	script := `for p; do case $(cut -d' ' -f3 /proc/$p/stat 2>/dev/null) in ''|Z|X) ;; *) echo $p;; esac; done`
	args := []string{"demo", "--", "sh", "-c", script, "sh"}
	for _, pid := range pids {
		args = append(args, strconv.Itoa(pid))
	}
	return peerLock(t, r, args...).start()
}

// Whatever happens to the holder, COMMAND and all that it has started are dead
// before the next holder begins.
func TestLockDeadBeforeTheNext(t *testing.T) {
	for _, c := range []struct {
		name string
		hurt func(p *process, r *testcluster.RedisServer)
		heal func(p *process, r *testcluster.RedisServer)
		back func(r *testcluster.RedisServer) // five seconds later
		ttl  string                           // "4s" if empty
		want int
	}{
		{
			name: "peer killed",
			hurt: func(p *process, _ *testcluster.RedisServer) { _ = p.Process.Kill() },
			want: 137,
		},
		{
			name: "its process group killed",
			hurt: func(p *process, _ *testcluster.RedisServer) { _ = syscall.Kill(-p.Process.Pid, syscall.SIGKILL) },
			want: 137,
		},
		{
			name: "peer stopped",
			hurt: func(p *process, _ *testcluster.RedisServer) { _ = p.Process.Signal(syscall.SIGSTOP) },
			heal: func(p *process, _ *testcluster.RedisServer) { _ = p.Process.Signal(syscall.SIGCONT) },
			ttl:  "12s", // here the next one comes at once, and each second is 10 ms to die in
			want: exitLost,
		},
		{
			name: "Redis cut off",
			hurt: func(_ *process, r *testcluster.RedisServer) { r.Cut() },
			back: (*testcluster.RedisServer).Heal,
			want: exitLost,
		},
		{
			name: "Redis stalled",
			hurt: func(_ *process, r *testcluster.RedisServer) { r.Stall() },
			back: (*testcluster.RedisServer).Heal,
			want: exitLost,
		},
		{
			name: "Redis killed, and back empty",
			hurt: func(_ *process, r *testcluster.RedisServer) { r.Kill() },
			back: (*testcluster.RedisServer).RestartEmpty,
			want: exitLost,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := testcluster.StartAnyRedis(t)
			p, pids := family(t, r, "--ttl", cmp.Or(c.ttl, "4s"), "--grace", "1s")
			n := next(t, r, pids)
			waiter := lockClient(t, r)
			eventually(t, "the next one waits", func() bool { return len(inspect(t, waiter, "demo").Waiters) == 1 })
			// And knows it, else it ends with the Redis: a waiter listens once it has its answer.
			eventually(t, "the holder and the next one listen", func() bool { return r.Listeners() == 2 })
			start := time.Now()
			c.hurt(p, r)
			var back sync.WaitGroup
			defer back.Wait()
			if c.back != nil {
				back.Go(func() {
					time.Sleep(5 * time.Second)
					c.back(r)
				})
			}
			if got := n.code(); got != 0 {
				t.Errorf("the next holder ends with %d: %s", got, &n.errOut)
			}
			if n.out.Len() > 0 {
				t.Errorf("alive when the next holder began: %s of %v", strings.Fields(n.out.String()), pids)
			}
			t.Logf("next holder done after %v", time.Since(start))
			if c.heal != nil {
				c.heal(p, r)
			}
			if got := p.code(); got != c.want {
				t.Errorf("code %d, want %d", got, c.want)
			}
			for _, pid := range pids {
				if runs(pid) {
					t.Errorf("%d runs on", pid)
				}
			}
		})
	}
}

// A lock that is handed over is granted for a part of --ttl at first: COMMAND begins
// with a whole lease, or half of it could be over before the first renewal.
func TestLockHandedOverIsWhole(t *testing.T) {
	t.Parallel()
	r := testcluster.StartAnyRedis(t)
	c := lockClient(t, r)
	l, err := c.Acquire(t.Context(), "demo")
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	peerLock(t, r, "--ttl", "2m", "demo", "--", "sh", "-c", `echo ready >"$0"; exec sleep 60`, out).start()
	eventually(t, "it waits", func() bool { return len(inspect(t, c, "demo").Waiters) == 1 })
	if err := l.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "COMMAND runs", holds(t, out, "ready\n"))
	if left := inspect(t, c, "demo").ExpiresIn; left < 80*time.Second {
		t.Errorf("COMMAND began with a lease of %v, want more than two thirds of 2 minutes", left)
	}
}

// TERM comes a grace before the deadline, so that COMMAND can put things right.
func TestLockLostTermFirst(t *testing.T) {
	t.Parallel()
	r := testcluster.StartAnyRedis(t)
	out := filepath.Join(t.TempDir(), "out")
	p := peerLock(t, r, "--ttl", "9s", "--grace", "3s", "demo", "--", "sh", "-c",
		`trap 'echo tidy >>"$0"; exit 0' TERM; echo ready >>"$0"; while :; do sleep 0.02; done`, out).start()
	eventually(t, "COMMAND runs", holds(t, out, "ready\n"))
	r.Cut()
	if got := p.code(); got != exitLost {
		t.Errorf("got code %d, want %d", got, exitLost)
	}
	if !holds(t, out, "ready\ntidy\n")() {
		t.Error("COMMAND was not told in time")
	}
	if s := p.errOut.String(); !strings.Contains(s, "could not be renewed in time; COMMAND was stopped") {
		t.Errorf("it says %q", s)
	}
}

func TestLockTakenByForce(t *testing.T) {
	r := testcluster.StartAnyRedis(t)
	out := filepath.Join(t.TempDir(), "out")
	p := peerLock(t, r, "--ttl", "10m", "demo", "--", "sh", "-c", `echo ready >"$0"; while :; do sleep 0.02; done`, out).start()
	eventually(t, "COMMAND runs", holds(t, out, "ready\n"))
	unlock := peerLock(t, r)
	unlock.Args = []string{"peer", "unlock", "demo", "--force"} // also behind the name
	start := time.Now()
	if got := unlock.run(); got != 0 || !strings.Contains(unlock.out.String(), "took demo from here (pid "+strconv.Itoa(p.Process.Pid)+", sh)") {
		t.Errorf("unlock: code %d, %s%s", got, &unlock.out, &unlock.errOut)
	}
	if got := p.code(); got != exitLost || !strings.Contains(p.errOut.String(), "COMMAND was stopped") {
		t.Errorf("got code %d: %s", got, &p.errOut)
	}
	if d := time.Since(start); d > 20*time.Second { // its next renewal would be after minutes
		t.Errorf("told after %v", d)
	}
	again := peerLock(t, r)
	again.Args = []string{"peer", "unlock", "--force", "demo"}
	if got := again.run(); got != exitNo {
		t.Errorf("unlock of a free lock: code %d: %s", got, &again.errOut)
	}
}

// Once the lock is known to be lost COMMAND has half a second, not its grace: the
// next holder runs beside it.
func TestLockKnownLossIsShort(t *testing.T) {
	r := testcluster.StartAnyRedis(t)
	dir := t.TempDir()
	p := peerLock(t, r, "--ttl", "10m", "--grace", "20s", "demo", "--", "sh", "-c", stubborn, dir)
	p.Stdout, p.Stderr = nil, nil
	p.start()
	pid := number(t, dir+"/command")
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	if _, err := lockClient(t, r).ForceRelease(context.Background(), "demo"); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if got := p.code(); got != exitLost {
		t.Errorf("got code %d, want %d", got, exitLost)
	}
	if d := time.Since(start); d > 5*time.Second { // 0.5 s on an idle machine; its grace is 20 s
		t.Errorf("COMMAND ran on for %v", d)
	}
}

// Who waits for the exit code does not wait for a Redis that is gone: not when the
// lock was lost, nor when COMMAND has ended by itself.
func TestLockEndsWithoutRedis(t *testing.T) {
	for script, want := range map[string]int{
		`echo >"$0/ready"; while :; do touch "$0/last"; sleep 0.02; done`: exitLost,
		`echo >"$0/ready"; sleep 1; touch "$0/last"; exit 3`:              3,
	} {
		r := testcluster.StartAnyRedis(t)
		t.Cleanup(r.Heal)
		dir := t.TempDir()
		p := peerLock(t, r, "--ttl", "3s", "--grace", "100ms", "demo", "--", "sh", "-c", script, dir).start()
		eventually(t, "COMMAND runs", holds(t, dir+"/ready", "\n"))
		r.Stall()
		if got := p.code(); got != want {
			t.Errorf("%s: got code %d, want %d: %s", script, got, want, &p.errOut)
		}
		last, err := os.Stat(dir + "/last")
		if err != nil {
			t.Fatal(err)
		}
		if d := time.Since(last.ModTime()); d > 1500*time.Millisecond { // a half for a busy machine
			t.Errorf("%s: peer ended %v after COMMAND", script, d)
		}
	}
}

// A reader of peer's own messages that is gone ends nothing.
func TestLockStderrClosed(t *testing.T) {
	r := testcluster.StartAnyRedis(t)
	out := filepath.Join(t.TempDir(), "out")
	pr, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := peerLock(t, r, "--ttl", "3s", "demo", "--", "sh", "-c", `echo ready >"$0"; while :; do sleep 0.02; done`, out)
	p.Stderr = pw
	p.start()
	pw.Close()
	pr.Close()
	eventually(t, "COMMAND runs", holds(t, out, "ready\n"))
	r.Cut()
	if got := p.code(); got != exitLost {
		t.Errorf("got code %d, want %d", got, exitLost)
	}
}

func TestLockBadNames(t *testing.T) {
	r := testcluster.StartAnyRedis(t)
	for _, name := range []string{strings.Repeat("x", 513), "a\x01b", "a\nb"} {
		p := peerLock(t, r, name, "--", "true")
		if got := p.run(); got != exitUsage {
			t.Errorf("%.10q: got code %d: %s", name, got, &p.errOut)
		}
	}
	for _, name := range []string{"{brace}", "a b", "ü", "-"} {
		p := peerLock(t, r, name, "--", "true")
		if got := p.run(); got != 0 {
			t.Errorf("%q: got code %d: %s", name, got, &p.errOut)
		}
	}
}
