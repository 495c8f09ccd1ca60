//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/peerhq/peer/testcluster"
	"golang.org/x/sys/unix"
)

// A screen is a terminal with a process in it, as a person sees it.
type screen struct {
	t      testing.TB
	master *os.File
	cmd    *exec.Cmd
	ended  chan struct{}

	closed chan struct{} // nobody has the terminal any more

	mu    sync.Mutex
	shown bytes.Buffer
	read  int // what expect has gone past
}

// open starts cmd as the leader of a session with a terminal of its own.
func open(t testing.TB, cmd *exec.Cmd) *screen {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		testcluster.Unavailable(t, "pty", err.Error())
	}
	raw, err := master.SyscallConn() // not Fd, after which Close would wait for Read
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if cerr := raw.Control(func(fd uintptr) {
		if n, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN); err == nil {
			err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0)
		}
	}); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &screen{t: t, master: master, cmd: cmd, ended: make(chan struct{}), closed: make(chan struct{})}
	go func() {
		defer close(s.closed)
		b := make([]byte, 4096)
		for {
			n, err := master.Read(b)
			s.mu.Lock()
			s.shown.Write(b[:n])
			s.mu.Unlock()
			if err != nil {
				return // EIO: nobody has the terminal any more
			}
		}
	}()
	go func() { _ = cmd.Wait(); close(s.ended) }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-s.ended
		master.Close()
	})
	return s
}

// expect waits until text appears behind what was expected before.
func (s *screen) expect(text string) {
	s.t.Helper()
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		s.mu.Lock()
		i := strings.Index(s.shown.String()[s.read:], text)
		if i >= 0 {
			s.read += i + len(text)
		}
		s.mu.Unlock()
		if i >= 0 {
			return
		}
	}
	s.t.Fatalf("%q does not appear; the screen shows %q", text, s.all())
}

// enterUntil enters keys, again and again, until text appears.
func (s *screen) enterUntil(keys, text string) {
	s.t.Helper()
	for tries := 0; tries < 50 && !strings.Contains(s.all()[s.read:], text); tries++ {
		s.enter(keys)
		time.Sleep(100 * time.Millisecond)
	}
	s.expect(text)
}

// drain waits until all is shown that was written, or a moment when something is
// left behind that has the terminal.
func (s *screen) drain() {
	select {
	case <-s.closed:
	case <-time.After(5 * time.Second):
	}
}

func (s *screen) all() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shown.String()
}

func (s *screen) enter(keys string) {
	s.t.Helper()
	if _, err := s.master.WriteString(keys); err != nil {
		s.t.Fatal(err)
	}
}

func (s *screen) code() int {
	s.t.Helper()
	select {
	case <-s.ended:
	case <-time.After(15 * time.Second):
		s.t.Fatalf("%v does not end; the screen shows %q", s.cmd.Args, s.all())
	}
	if ws := s.cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return s.cmd.ProcessState.ExitCode()
}

const (
	keyInterrupt = "\x03"
	keySuspend   = "\x1a"
)

func TestLockTerminalCommandReads(t *testing.T) {
	r := testcluster.StartAnyRedis(t)
	s := open(t, peerLock(t, r, "demo", "--", "sh", "-c", `echo ready; read x; echo "got:$x"; stty -a >/dev/null || echo no terminal; exit 4`).Cmd)
	s.expect("ready")
	s.enter("hello\n")
	s.expect("got:hello")
	if got := s.code(); got != 4 || strings.Contains(s.all(), "no terminal") {
		t.Errorf("got code %d, screen %q", got, s.all())
	}
}

// COMMAND has the terminal before it does anything: who presses ^Z at its first
// word means it.
func TestLockTerminalFromTheStart(t *testing.T) {
	s := shell(t, testcluster.StartAnyRedis(t))
	const n = 40
	// Of what follows the name in brackets, the 3rd is its group, the 6th that
	// which has the terminal.
	s.enter(fmt.Sprintf(`for i in $(seq %d); do peer lock demo -- sh -c 'read -r l </proc/self/stat; set -- ${l##*\) }; echo "<$(($6 - $3))>"'; done; echo all"" done`+"\n", n))
	for range n { // the time to wait is for each
		s.expect("<0>")
	}
	s.expect("all done")
	if got := strings.Count(s.all(), "<0>"); got != n {
		t.Errorf("it had the terminal %d times of %d; the screen shows %q", got, n, s.all())
	}
}

// A COMMAND that cannot be run leaves the terminal to the script that wanted it.
func TestLockTerminalIsGivenBack(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.sh")
	if err := os.WriteFile(bad, []byte("#!/no/such/interpreter\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	p := peerLock(t, testcluster.StartAnyRedis(t))
	p.Path, p.Args = "/bin/sh", []string{"sh", "-c", `peer lock demo -- "$0"; echo "code=$?"; read x; echo "got:$x"`, bad}
	s := open(t, p.Cmd)
	s.expect("code=127")
	s.enter("hello\n")
	s.expect("got:hello")
	s.code()
}

// ^C goes to COMMAND alone, once, and COMMAND decides what comes of it.
func TestLockTerminalInterrupt(t *testing.T) {
	r := testcluster.StartAnyRedis(t)
	s := open(t, peerLock(t, r, "demo", "--", "sh", "-c", `n=0; trap 'n=$((n+1)); echo "int $n"' INT; trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done`).Cmd)
	s.expect("ready")
	s.enter(keyInterrupt)
	s.expect("int 1")
	s.enter(keyInterrupt)
	s.expect("int 2")
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	if got := s.code(); got != 5 || strings.Contains(s.all(), "int 3") {
		t.Errorf("got code %d, screen %q", got, s.all())
	}
	// By exec: a shell that forks at that very moment (dash) keeps ^C to itself,
	// with or without us.
	s = open(t, peerLock(t, r, "demo", "--", "sh", "-c", `echo ready; exec sleep 60`).Cmd)
	s.expect("ready")
	s.enter(keyInterrupt)
	if got := s.code(); got != 130 {
		t.Errorf("got code %d, screen %q", got, s.all())
	}
}

func TestLockTerminalShowsTheQueue(t *testing.T) {
	r := testcluster.StartAnyRedis(t)
	held, err := lockClient(t, r).Acquire(context.Background(), "demo")
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, peerLock(t, r, "demo", "--", "echo", "in").Cmd)
	s.expect(fmt.Sprintf("peer lock: demo is held by test (pid %d, ", os.Getpid()))
	s.expect("1st in line")
	if err := held.Release(context.Background()); err != nil {
		t.Fatal(err)
	}
	s.expect("in")
	s = open(t, peerLock(t, r, "demo", "--", "echo", "in").Cmd)
	s.expect("in")
	held, err = lockClient(t, r).Acquire(context.Background(), "demo")
	if err != nil {
		t.Fatal(err)
	}
	s = open(t, peerLock(t, r, "demo", "--", "echo", "in").Cmd)
	s.expect("1st in line")
	s.enter(keyInterrupt)
	if got := s.code(); got != 130 {
		t.Errorf("^C while waiting: code %d, screen %q", got, s.all())
	}
	_ = held.Release(context.Background())
}

// Who waits is told that the Redis is gone, and keeps its place.
func TestLockTerminalRedisGone(t *testing.T) {
	r := testcluster.StartAnyRedis(t)
	c := lockClient(t, r)
	held, err := c.Acquire(context.Background(), "demo")
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, peerLock(t, r, "demo", "--", "echo", "in").Cmd)
	s.expect("1st in line")
	r.Cut()
	s.expect("no answer from the Redis, trying on")
	r.Heal()
	s.expect("the Redis answers again")
	eventually(t, "it answers this client too", func() bool {
		_, err := c.Inspect(t.Context(), "demo")
		return err == nil
	})
	if err := held.Release(context.Background()); err != nil {
		t.Fatal(err)
	}
	s.expect("in\r\n")
	if got := s.code(); got != 0 {
		t.Errorf("got code %d", got)
	}
}

// shell is an interactive shell with job control in a terminal.
func shell(t *testing.T, r *testcluster.RedisServer) *screen {
	t.Helper()
	bash, err := exec.LookPath("bash")
	if err != nil {
		testcluster.Unavailable(t, "bash", err.Error())
	}
	p := peerLock(t, r)
	p.Path, p.Args = bash, []string{"bash", "--norc", "--noprofile", "-i"}
	p.Env = append(p.Env, "PS1=$ ", "TERM=dumb", "HISTFILE=")
	s := open(t, p.Cmd)
	s.expect("$ ")
	return s
}

func TestLockTerminalSuspend(t *testing.T) {
	s := shell(t, testcluster.StartAnyRedis(t))
	s.enter("peer lock demo -- sh -c 'echo rea\"\"dy; read x; echo \"got:$x\"; exit 6'\n")
	s.expect("ready")
	s.enter(keySuspend)
	s.expect("peer lock: suspended; the lock demo is lost unless it goes on within ")
	s.expect("Stopped")
	s.expect("$ ")
	s.enter("fg\n")
	s.expect("peer lock demo")
	s.enter("again\n")
	s.expect("got:again")
	s.enter("echo code=$?\n")
	s.expect("code=6")
	// and once more, from the background
	s.enter("peer lock demo -- sh -c 'read x; echo \"got:$x\"' &\n")
	s.expect("peer lock: suspended")
	s.enterUntil("\n", "Stopped") // a shell tells of it with a prompt, once it knows
	s.enter("fg\n")
	s.expect("peer lock demo")
	s.enter("later\n")
	s.expect("got:later")
	s.enter("exit\n")
	s.code()
}

func TestLockTerminalSuspendedTooLong(t *testing.T) {
	s := shell(t, testcluster.StartAnyRedis(t))
	// It starts nothing: a shell that does so at the very moment of ^Z (dash, by
	// vfork) is not stopped, with or without us.
	s.enter("peer lock --ttl 6s demo -- sh -c 'trap \"echo term\\\"\\\"inated\" TERM; echo rea\"\"dy; while :; do read x; done'\n")
	s.expect("ready")
	s.enter(keySuspend)
	s.expect("Stopped")
	s.enter("peer lock --wait 30s demo -- echo next one\n")
	s.expect("\nnext one")
	s.enter("fg\n")
	s.expect("COMMAND was stopped")
	s.enter("echo code=$?\n")
	s.expect("code=76")
	if !strings.Contains(s.all(), "terminated") {
		t.Errorf("COMMAND was not told; the screen shows %q", s.all())
	}
}

// In a pipeline the other end may be what reads the terminal: COMMAND gets it
// only when it asks.
func TestLockTerminalPipeline(t *testing.T) {
	s := shell(t, testcluster.StartAnyRedis(t))
	s.enter("peer lock demo -- sh -c 'sleep 0.3; echo out' | { read x; read y </dev/tty; echo \"[$x $y]\"; }\n")
	s.enter("typed\n")
	s.expect("[out typed]")
	s.enter("peer lock demo -- sh -c 'read x; echo \"<$x>\"' | cat\n")
	s.enter("asked\n")
	s.expect("<asked>")
	s.enter("peer lock demo -- sh -c 'trap \"echo int >&2; exit 3\" INT; echo rea\"\"dy >&2; while :; do sleep 0.05; done' | cat; echo code=${PIPESTATUS[0]}\n")
	s.expect("ready")
	s.enter(keyInterrupt)
	s.expect("int")
	s.enter("\n")
}

// When its terminal is closed, COMMAND ends, and the lock with it.
func TestLockTerminalClosed(t *testing.T) {
	r := testcluster.StartAnyRedis(t)
	s := open(t, peerLock(t, r, "demo", "--", "sh", "-c", `echo ready; sleep 60`).Cmd)
	s.expect("ready")
	s.master.Close()
	if got := s.code(); got != 129 {
		t.Errorf("got code %d", got)
	}
	if info := inspect(t, lockClient(t, r), "demo"); info.Holder != nil {
		t.Errorf("still held by %v", info.Holder)
	}
}

// When its terminal is closed and COMMAND does not care, the lock stays with it;
// and when peer is killed then, COMMAND and its children are dead before the next
// one begins.
func TestLockTerminalClosedOnStubbornCommand(t *testing.T) {
	r := testcluster.StartAnyRedis(t)
	dir := t.TempDir()
	s := open(t, peerLock(t, r, "--ttl", "4s", "--grace", "1s", "demo", "--", "sh", "-c", stubborn, dir).Cmd)
	pids := []int{number(t, dir+"/command"), number(t, dir+"/child"), number(t, dir+"/far")}
	t.Cleanup(func() {
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	n := next(t, r, pids)
	looker := lockClient(t, r)
	eventually(t, "the next one waits", func() bool { return len(inspect(t, looker, "demo").Waiters) == 1 })
	held := inspect(t, looker, "demo").Fence
	s.master.Close()
	time.Sleep(500 * time.Millisecond) // for the word of it to get round
	for _, pid := range pids {
		if !runs(pid) {
			t.Errorf("%d of %v is gone: it traps HUP and TERM", pid, pids)
		}
	}
	if info := inspect(t, looker, "demo"); info.Fence != held || info.Holder == nil {
		t.Errorf("the lock is held by %v with fence %d, want fence %d still", info.Holder, info.Fence, held)
	}
	_ = s.cmd.Process.Kill()
	if got := n.code(); got != 0 || n.out.Len() > 0 {
		t.Errorf("the next holder ends with %d; alive when it began: %q", got, &n.out)
	}
}

func TestColoursOnTerminalsOnly(t *testing.T) {
	for env, want := range map[string]bool{"": true, "NO_COLOR=1": false, "TERM=dumb": false} {
		cmd := exec.Command("peer", "config", "show", "--origin")
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TERM=xterm", "PEER_CONFIG=" + emptyFile(t), env}
		s := open(t, cmd)
		s.expect("default")
		s.code()
		if got := strings.Contains(s.all(), "\x1b"); got != want {
			t.Errorf("%q: colours: %v, want %v", env, got, want)
		}
	}
}
