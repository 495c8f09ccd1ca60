//go:build linux

package guard_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/peerhq/peer/cmd/peer/guard"
)

// holderVar makes the test binary a holder: a process of its own that guards a
// shell script and can be killed.
const holderVar = "GUARD_TEST_HOLDER"

// stillbornVar has a guard end before it has read an order.
const stillbornVar = "GUARD_TEST_STILLBORN"

func TestMain(m *testing.M) {
	os.Setenv("GORACE", "atexit_sleep_ms=0") // a guard under the race detector would end a second late
	if os.Getenv(stillbornVar) != "" {
		os.Exit(7)
	}
	if code, ok := guard.Main(os.Args); ok {
		os.Exit(code)
	}
	if v := os.Getenv(holderVar); v != "" {
		os.Exit(holder(v))
	}
	os.Exit(m.Run())
}

// holder runs a script under a guard: "LEASE GRACE SCRIPT". It renews for ever,
// prints how the command ended, and passes every signal on.
func holder(spec string) int {
	f := strings.SplitN(spec, " ", 3)
	lease, err1 := time.ParseDuration(f[0])
	grace, err2 := time.ParseDuration(f[1])
	if err := errors.Join(err1, err2); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	sigs := make(chan os.Signal, 8)
	signal.Notify(sigs, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1)
	os.Unsetenv(holderVar)
	g, err := guard.Start(guard.Config{
		Title: "test", Path: "/bin/sh", Args: []string{"sh", "-c", f[2]},
		Env: os.Environ(), Grace: grace, Deadline: time.Now().Add(lease),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	renew := time.NewTicker(lease / 3)
	for {
		select {
		case <-renew.C:
			g.Extend(time.Now().Add(lease))
		case s := <-sigs:
			g.Signal(s.(syscall.Signal))
		case <-g.Done():
			r, err := g.Result()
			fmt.Printf("ended code=%d stopped=%v err=%v\n", r.Code, r.Stopped, err)
			return 0
		}
	}
}

// run starts a shell script under a guard of this process.
func run(t *testing.T, script string, change func(*guard.Config)) (*guard.Guard, error) {
	t.Helper()
	cfg := guard.Config{
		Title: t.Name(), Path: "/bin/sh", Args: []string{"sh", "-c", script},
		Env: append(os.Environ(), "DIR="+t.TempDir()), Grace: time.Second,
		Deadline: time.Now().Add(time.Minute),
	}
	if change != nil {
		change(&cfg)
	}
	g, err := guard.Start(cfg)
	if err == nil {
		t.Cleanup(func() { g.Kill(); <-g.Done() })
	}
	return g, err
}

func result(t *testing.T, g *guard.Guard) guard.Result {
	t.Helper()
	select {
	case <-g.Done():
	case <-time.After(30 * time.Second):
		t.Fatal("the command does not end")
	}
	r, err := g.Result()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestEndsAsTheCommandEnds(t *testing.T) {
	for script, want := range map[string]guard.Result{
		"exit 0":      {},
		"exit 3":      {Code: 3},
		"exit 255":    {Code: 255},
		"kill -9 $$":  {Code: 137, Signal: syscall.SIGKILL},
		"kill -15 $$": {Code: 143, Signal: syscall.SIGTERM},
	} {
		g, err := run(t, script, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := result(t, g); got != want {
			t.Errorf("%s: got %+v, want %+v", script, got, want)
		}
	}
}

func TestCannotStart(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "noexec")
	if err := os.WriteFile(script, []byte("not a program"), 0o755); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{dir + "/absent": 127, dir: 126, script: 126} {
		_, err := run(t, "", func(c *guard.Config) { c.Path = path })
		var se *guard.StartError
		if !errors.As(err, &se) || se.Code != want {
			t.Errorf("%s: got %v, want code %d", path, err, want)
		}
	}
	_, err := run(t, "exit 0", func(c *guard.Config) { c.Deadline = time.Now() })
	var se *guard.StartError
	if !errors.As(err, &se) || se.Code != 76 {
		t.Errorf("after the deadline: got %v, want code 76", err)
	}
}

// The command gets the holder's descriptors, working directory and environment,
// byte for byte, and nothing of the guard's own.
func TestCommandInheritsNothingOfTheGuard(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	own, _ := exec.Command("sh", "-c", "ls /proc/self/fd | tr '\\n' ' '").Output() // what any child has
	g, err := run(t, `{ ls /proc/self/fd | tr '\n' ' '; echo; env | grep -c GUARD_PIPES; printf %s "$1" | od -An -tx1; ps -o pgid= -p $$; echo $$; } >`+out, func(c *guard.Config) {
		c.Args = append(c.Args, "arg0", "\xff\xfe")
	})
	if err != nil {
		t.Fatal(err)
	}
	result(t, g)
	b, _ := os.ReadFile(out)
	line := strings.Split(strings.TrimSpace(string(b)), "\n")
	if len(line) != 5 {
		t.Fatalf("got %q", b)
	}
	for fd := range strings.FieldsSeq(line[0]) {
		if !strings.Contains(" "+string(own), " "+fd+" ") {
			t.Errorf("the command has descriptor %s of its guard", fd)
		}
	}
	if line[1] != "0" {
		t.Error("the guard's variable is in the command's environment")
	}
	if strings.TrimSpace(line[2]) != "ff fe" {
		t.Errorf("argument: got % q, want ff fe", line[2])
	}
	if strings.TrimSpace(line[3]) != line[4] {
		t.Errorf("process group %s of command %s: want its own", line[3], line[4])
	}
}

// A guard that dies before the command runs is an error, however much there was to
// tell it, and no call that does not return.
func TestGuardDiesAtOnce(t *testing.T) {
	for _, size := range []int{0, 1 << 20} {
		failed := make(chan error, 1)
		go func() {
			_, err := run(t, strings.Repeat("#", size), func(c *guard.Config) { c.Env = append(c.Env, stillbornVar+"=1") })
			failed <- err
		}()
		select {
		case err := <-failed:
			if err == nil || !strings.Contains(err.Error(), "exit status 7") {
				t.Errorf("got %v, want how the guard ended", err)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("Start does not return")
		}
	}
}

func TestSignalReachesTheGroupOnce(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	g, err := run(t, `trap 'echo got >>`+out+`' USR1; trap 'exit 9' TERM; echo ready >>`+out+`; while :; do sleep 0.02; done`, nil)
	if err != nil {
		t.Fatal(err)
	}
	await(t, out, "ready\n")
	g.Signal(syscall.SIGUSR1)
	await(t, out, "ready\ngot\n")
	g.Signal(syscall.SIGTERM)
	if r := result(t, g); r.Code != 9 || r.Stopped {
		t.Errorf("got %+v, want code 9", r)
	}
	await(t, out, "ready\ngot\n")
}

// TERM at deadline - grace, KILL at the deadline, and nothing of it afterwards.
func TestDeadline(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	deadline := time.Now().Add(6 * time.Second)
	g, err := run(t, `trap 'date +%s.%N >>`+out+`' TERM; (trap '' TERM; sleep 60) & while :; do sleep 0.02; done`, func(c *guard.Config) {
		c.Deadline, c.Grace = deadline, 3*time.Second
	})
	if err != nil {
		t.Fatal(err)
	}
	r := result(t, g)
	late := time.Since(deadline)
	if !r.Stopped || r.Code != 137 {
		t.Errorf("got %+v, want stopped by KILL", r)
	}
	if late < -70*time.Millisecond || late > 10*time.Second { // room for a busy machine
		t.Errorf("ended %v after the deadline, want some 50 ms before it", late)
	}
	if err := syscall.Kill(-g.Group(), 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the group lives on: %v", err)
	}
	b, _ := os.ReadFile(out)
	lines := strings.Fields(string(b))
	if len(lines) != 1 {
		t.Fatalf("TERM arrived %d times, want once", len(lines))
	}
	at, _ := strconv.ParseFloat(lines[0], 64)
	before := deadline.Sub(time.UnixMicro(int64(at * 1e6)))
	if before < 500*time.Millisecond || before > 3200*time.Millisecond {
		t.Errorf("TERM %v before the deadline, want 3s", before)
	}
}

func TestExtendedDeadlineLetsItRun(t *testing.T) {
	g, err := run(t, "sleep 4; exit 4", func(c *guard.Config) {
		c.Deadline, c.Grace = time.Now().Add(3*time.Second), 100*time.Millisecond
	})
	if err != nil {
		t.Fatal(err)
	}
	g.Extend(time.Now().Add(time.Minute))
	if r := result(t, g); r.Code != 4 || r.Stopped {
		t.Errorf("got %+v, want code 4", r)
	}
}

func TestStop(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	g, err := run(t, `trap '' TERM; echo ready >`+out+`; while :; do sleep 0.02; done`, nil)
	if err != nil {
		t.Fatal(err)
	}
	await(t, out, "ready\n")
	kill := time.Now().Add(300 * time.Millisecond)
	g.Stop(kill)
	if r := result(t, g); !r.Stopped || r.Code != 137 {
		t.Errorf("got %+v", r)
	}
	if d := time.Since(kill); d < -20*time.Millisecond || d > 10*time.Second {
		t.Errorf("killed %v after the moment given", d)
	}
}

// What the command leaves in its group is stopped before the guard ends; what
// went into a session of its own is a daemon, and left alone.
func TestClearsUpBehindTheCommand(t *testing.T) {
	dir := t.TempDir()
	g, err := run(t, `(sleep 60 & echo $! >$D/left); setsid sh -c 'echo $$ >$D/daemon; exec sleep 60' >/dev/null 2>&1 & until test -s $D/daemon; do sleep 0.02; done; exit 5`, func(c *guard.Config) {
		c.Env = append(c.Env, "D="+dir)
	})
	if err != nil {
		t.Fatal(err)
	}
	if r := result(t, g); r.Code != 5 || r.Stopped {
		t.Errorf("got %+v, want code 5", r)
	}
	if left := pidIn(t, dir+"/left"); alive(left) {
		t.Errorf("process %d of the group lives on", left)
	}
	daemon := pidIn(t, dir+"/daemon")
	if !alive(daemon) {
		t.Error("the daemon was stopped")
	}
	_ = syscall.Kill(daemon, syscall.SIGKILL)
}

// A family is a script with a child that traps TERM and a grandchild in a
// session of its own; each writes its process id.
const family = `
trap '' TERM HUP INT
setsid sh -c 'trap "" TERM HUP INT; echo $$ >$D/far; while :; do sleep 1; done' &
sh -c 'trap "" TERM HUP INT; echo $$ >$D/child; while :; do sleep 1; done' &
echo $$ >$D/command
while :; do sleep 1; done
`

type familyOf struct{ command, child, far int }

func (f familyOf) alive() []string {
	var out []string
	for name, pid := range map[string]int{"command": f.command, "child": f.child, "far": f.far} {
		if alive(pid) {
			out = append(out, fmt.Sprint(name, " ", pid))
		}
	}
	return out
}

// startHolder runs a family under a holder in a process of its own.
func startHolder(t *testing.T, lease, grace string) (*exec.Cmd, familyOf, *bytes.Buffer) {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), holderVar+"="+lease+" "+grace+" "+family, "D="+dir)
	out := new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	f := familyOf{pidIn(t, dir+"/command"), pidIn(t, dir+"/child"), pidIn(t, dir+"/far")}
	t.Cleanup(func() {
		for _, pid := range []int{f.command, f.child, f.far} {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd, f, out
}

func expectGone(t *testing.T, f familyOf, by time.Time) {
	t.Helper()
	for {
		left := f.alive()
		if len(left) == 0 {
			return
		}
		if time.Now().After(by) {
			t.Fatalf("alive too long: %v", left)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestHolderKilled(t *testing.T) {
	cmd, f, _ := startHolder(t, "20s", "300ms")
	at := time.Now()
	_ = cmd.Process.Kill()
	expectGone(t, f, at.Add(8*time.Second)) // the lease has 13 s at least
	if d := time.Since(at); d < 250*time.Millisecond {
		t.Errorf("killed after %v, want a grace of 300ms for TERM", d)
	}
}

// What shoots at the holder's whole process group misses the guard.
func TestHolderGroupKilled(t *testing.T) {
	cmd, f, _ := startHolder(t, "20s", "100ms")
	at := time.Now()
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	expectGone(t, f, at.Add(8*time.Second))
}

func TestHolderStopped(t *testing.T) {
	cmd, f, _ := startHolder(t, "4s", "200ms")
	at := time.Now()
	_ = cmd.Process.Signal(syscall.SIGSTOP)
	expectGone(t, f, at.Add(8*time.Second))
	if d := time.Since(at); d < time.Second {
		t.Errorf("killed %v after the holder stopped, want at the deadline", d)
	}
	_ = cmd.Process.Signal(syscall.SIGCONT)
}

func TestGuardKilled(t *testing.T) {
	cmd, f, out := startHolder(t, "1m", "100ms")
	at := time.Now()
	_ = syscall.Kill(parentOf(t, f.command), syscall.SIGKILL)
	expectGone(t, f, at.Add(10*time.Second))
	_ = cmd.Wait()
	if !strings.Contains(out.String(), "the guard of the command died: killed by killed") {
		t.Errorf("the holder says %q", out)
	}
}

func await(t *testing.T, path, want string) {
	t.Helper()
	var b []byte
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if b, _ = os.ReadFile(path); string(b) == want {
			return
		}
	}
	t.Fatalf("%s: got %q, want %q", path, b, want)
}

func pidIn(t *testing.T, path string) int {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		b, _ := os.ReadFile(path)
		if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && bytes.HasSuffix(b, []byte("\n")) {
			return pid
		}
	}
	t.Fatalf("no process id in %s", path)
	return 0
}

// alive does not count a zombie, which runs nothing any more.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return syscall.Kill(pid, 0) == nil && !os.IsNotExist(err)
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	return f[0] != "Z" && f[0] != "X"
}

func parentOf(t *testing.T, pid int) int {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if v, ok := strings.CutPrefix(s.Text(), "PPid:"); ok {
			n, _ := strconv.Atoi(strings.TrimSpace(v))
			return n
		}
	}
	t.Fatal("no parent")
	return 0
}
