//go:build linux

package main

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/peerhq/peer/testcluster"
)

// peerElect prepares `peer elect ARGS` on r.
func peerElect(t testing.TB, r *testcluster.RedisServer, args ...string) *process {
	t.Helper()
	p := peerLock(t, r)
	p.Args = append([]string{"peer", "elect"}, args...)
	return p
}

// diary is a file to which COMMANDs append a line when they begin.
type diary struct {
	t    testing.TB
	path string
}

func newDiary(t testing.TB) diary { return diary{t, filepath.Join(t.TempDir(), "diary")} }

func (d diary) lines() []string {
	b, _ := os.ReadFile(d.path)
	return strings.Fields(string(b))
}

// await waits for the n-th line and returns it as a number.
func (d diary) await(n int) int {
	d.t.Helper()
	eventually(d.t, "line "+strconv.Itoa(n), func() bool { return len(d.lines()) >= n })
	v, err := strconv.Atoi(d.lines()[n-1])
	if err != nil {
		d.t.Fatal(err)
	}
	return v
}

func TestElectOneAfterTheOther(t *testing.T) {
	t.Parallel()
	r := testcluster.StartAnyRedis(t)
	c := lockClient(t, r)
	pids, fences := newDiary(t), newDiary(t)
	var all []*process
	for i := range 3 {
		all = append(all, peerElect(t, r, "--ttl", "4s", "--grace", "100ms", "chief", "--", "sh", "-c",
			`trap 'exit 9' TERM; echo $PEER_LOCK_FENCE >>"$1"; echo $$ >>"$0"; while :; do sleep 0.02; done`, pids.path, fences.path).start())
		eventually(t, "it stands", func() bool {
			info := inspect(t, c, "chief")
			return info.Holder != nil && len(info.Waiters) == i
		})
	}
	first := pids.await(1)
	_ = all[0].Process.Kill()
	second := pids.await(2)
	if runs(first) {
		t.Error("the first COMMAND runs while the second does")
	}
	if got := all[0].code(); got != 137 {
		t.Errorf("the killed one ended with %d", got)
	}
	_ = all[1].Process.Signal(syscall.SIGTERM)
	if got := all[1].code(); got != 9 {
		t.Errorf("the second one ended with %d, want COMMAND's 9: %s", got, &all[1].errOut)
	}
	third := pids.await(3)
	if runs(second) {
		t.Error("the second COMMAND runs while the third does")
	}
	_ = syscall.Kill(third, syscall.SIGKILL)
	if got := all[2].code(); got != 137 {
		t.Errorf("the third one ended with %d, want what became of its COMMAND", got)
	}
	if len(pids.lines()) != 3 || fences.await(1) >= fences.await(2) || fences.await(2) >= fences.await(3) {
		t.Errorf("COMMANDs %v, fences %v", pids.lines(), fences.lines())
	}
	if s := all[2].errOut.String(); !strings.Contains(s, "peer elect: elected chief, fence "+fences.lines()[2]+": sh runs here\n") {
		t.Errorf("it says %q", s)
	}
}

func TestElectStandsAgainAfterAFailure(t *testing.T) {
	t.Parallel()
	r := testcluster.StartAnyRedis(t)
	d := newDiary(t)
	p := peerElect(t, r, "--restart", "chief", "--", "sh", "-c", `echo $PEER_LOCK_FENCE >>"$0"; test $(wc -l <"$0") = 3 || exit 4`, d.path)
	if got := p.run(); got != 0 {
		t.Errorf("code %d: %s", got, &p.errOut)
	}
	if n := len(d.lines()); n != 3 || d.await(1) >= d.await(3) {
		t.Errorf("fences %v, want 3", d.lines())
	}
	if n := strings.Count(p.errOut.String(), "COMMAND ended with 4; stands again in"); n != 2 {
		t.Errorf("it says %s", &p.errOut)
	}
}

// While one that has failed stands back, another is elected.
func TestElectLeavesOthersTheirTurn(t *testing.T) {
	t.Parallel()
	r := testcluster.StartAnyRedis(t)
	c := lockClient(t, r)
	bad := newDiary(t)
	gate := filepath.Join(t.TempDir(), "gate")
	p := peerElect(t, r, "--restart", "chief", "--", "sh", "-c", `echo 1 >>"$0"; until test -e "$1"; do sleep 0.02; done; exit 4`, bad.path, gate).start()
	bad.await(1)
	good := newDiary(t)
	peerElect(t, r, "chief", "--", "sh", "-c", `echo 1 >>"$0"; exec sleep 60`, good.path).start()
	eventually(t, "the other one waits", func() bool { return len(inspect(t, c, "chief").Waiters) == 1 })
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	good.await(1)
	eventually(t, "the first one stands again", func() bool { return len(inspect(t, c, "chief").Waiters) == 1 })
	if n := len(bad.lines()); n != 1 {
		t.Errorf("the one that fails ran %d times before the other", n)
	}
	_ = p.Process.Signal(syscall.SIGTERM)
	if got := p.code(); got != 143 {
		t.Errorf("it ended with %d: %s", got, &p.errOut)
	}
}

func TestElectOutlivesRedis(t *testing.T) {
	t.Parallel()
	r := testcluster.StartAnyRedis(t)
	d := newDiary(t)
	p := peerElect(t, r, "--restart", "--ttl", "2s", "--grace", "100ms", "chief", "--", "sh", "-c", `echo $$ >>"$0"; exec sleep 60`, d.path).start()
	first := d.await(1)
	r.Cut()
	eventually(t, "COMMAND is stopped", func() bool { return !runs(first) })
	time.Sleep(2 * time.Second) // it finds no Redis when it stands again
	r.Heal()
	d.await(2)
	_ = p.Process.Signal(syscall.SIGTERM) // COMMAND does not trap it
	if got := p.code(); got != 143 {
		t.Errorf("it ended with %d: %s", got, &p.errOut)
	}
	if n := len(d.lines()); n != 2 {
		t.Errorf("COMMAND ran %d times", n)
	}

	p = peerElect(t, r, "--ttl", "2s", "--grace", "100ms", "chief", "--", "sh", "-c", `echo $$ >>"$0"; exec sleep 60`, d.path).start()
	d.await(3)
	r.Cut()
	if got := p.code(); got != exitLost {
		t.Errorf("without --restart it ended with %d: %s", got, &p.errOut)
	}
}

// One that is cut off from the Redis loses the office, and another is elected: by
// then the first one's COMMAND is dead, with all that it has started, though it
// does not want to stop.
func TestElectElsewhereWhenLost(t *testing.T) {
	t.Parallel()
	r := testcluster.StartAnyRedis(t)
	way := newRelay(t, r.Addr())
	dir := t.TempDir()
	p := peerElect(t, r, "--ttl", "12s", "--grace", "1s", "chief", "--", "sh", "-c", stubborn, dir)
	p.Env = append(p.Env, "PEER_REDIS_URL=redis://"+way.addr)
	p.Stdout, p.Stderr = nil, nil // its orphans must not keep a pipe of ours open
	p.start()
	pids := []int{number(t, dir+"/command"), number(t, dir+"/child"), number(t, dir+"/far")}
	t.Cleanup(func() {
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	script := `for p; do case $(cut -d' ' -f3 /proc/$p/stat 2>/dev/null) in ''|Z|X) ;; *) echo $p;; esac; done; exit 4`
	args := []string{"chief", "--", "sh", "-c", script, "sh"}
	for _, pid := range pids {
		args = append(args, strconv.Itoa(pid))
	}
	q := peerElect(t, r, args...).start()
	c := lockClient(t, r)
	eventually(t, "the other one stands", func() bool { return len(inspect(t, c, "chief").Waiters) == 1 })
	way.cut()
	if got := q.code(); got != 4 {
		t.Errorf("the other one ends with %d: %s", got, &q.errOut)
	}
	if q.out.Len() > 0 {
		t.Errorf("alive when the other one was elected: %s of %v", strings.Fields(q.out.String()), pids)
	}
	if got := p.code(); got != exitLost {
		t.Errorf("the first one ends with %d, want %d", got, exitLost)
	}
}

// A relay is one program's way to an address.
type relay struct {
	addr string
	l    net.Listener

	mu    sync.Mutex
	conns []net.Conn
	isCut bool
}

func newRelay(t testing.TB, to string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &relay{addr: l.Addr().String(), l: l}
	t.Cleanup(w.cut)
	go func() {
		for {
			a, err := l.Accept()
			if err != nil {
				return
			}
			b, err := net.Dial("tcp", to)
			if err != nil {
				a.Close()
				continue
			}
			if !w.add(a, b) {
				return
			}
			go func() { _, _ = io.Copy(a, b); a.Close() }()
			go func() { _, _ = io.Copy(b, a); b.Close() }()
		}
	}()
	return w
}

func (w *relay) add(conns ...net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns = append(w.conns, conns...)
	if w.isCut {
		for _, c := range conns {
			c.Close()
		}
	}
	return !w.isCut
}

// cut ends it for good.
func (w *relay) cut() {
	w.l.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.isCut = true
	for _, c := range w.conns {
		c.Close()
	}
}

func TestElectHeedsSignals(t *testing.T) {
	t.Parallel()
	r := testcluster.StartAnyRedis(t)
	d := newDiary(t)
	// While COMMAND runs: no other COMMAND, whatever its code.
	p := peerElect(t, r, "--restart", "chief", "--", "sh", "-c", `trap 'exit 5' INT; echo $$ >>"$0"; while :; do sleep 0.02; done`, d.path).start()
	d.await(1)
	_ = p.Process.Signal(syscall.SIGINT)
	if got := p.code(); got != 5 {
		t.Errorf("while it runs: code %d: %s", got, &p.errOut)
	}
	// While it stands back.
	p = peerElect(t, r, "--restart", "chief", "--", "sh", "-c", `echo $$ >>"$0"; exit 5`, d.path).start()
	command := d.await(2)
	eventually(t, "COMMAND has ended", func() bool { return !runs(command) })
	start := time.Now()
	_ = p.Process.Signal(syscall.SIGTERM)
	if got := p.code(); got != 143 && got != 5 { // 5 when the signal came before the end was seen
		t.Errorf("while it stands back: code %d: %s", got, &p.errOut)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("while it stands back: took %v", took)
	}
	if n := len(d.lines()); n != 2 {
		t.Errorf("COMMAND ran %d times", n)
	}
}

func TestElectRefuses(t *testing.T) {
	t.Parallel()
	r := testcluster.StartAnyRedis(t)
	for _, c := range []struct {
		args []string
		want int
		says string
	}{
		{[]string{"chief", "--", "no-such-command"}, exitNotFound, "elect: COMMAND no-such-command was not found"},
		{[]string{"--restart", "chief", "--", "/etc/hostname"}, exitNotRunnable, "elect: COMMAND"},
		{[]string{"chief", "true"}, exitUsage, "usage: peer elect"},
		{[]string{"--", "true"}, exitUsage, "NAME"},
		{[]string{"--wait", "3s", "chief", "--", "true"}, exitUsage, "unknown flag --wait"},
		{[]string{"a\x01", "--", "true"}, exitUsage, "control characters"},
		{[]string{"--redis", "redis://" + freeAddr(), "chief", "--", "true"}, exitUnavailable, "elect: redis"},
	} {
		p := peerElect(t, r, c.args...)
		if got := p.run(); got != c.want || !strings.Contains(p.errOut.String(), c.says) {
			t.Errorf("%q: got code %d, %s; want %d that says %q", c.args, got, &p.errOut, c.want, c.says)
		}
	}
}
