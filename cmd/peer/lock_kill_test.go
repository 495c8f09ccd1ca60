//go:build linux

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/peerhq/peer/lockclient"
	"github.com/peerhq/peer/testcluster"
)

// What a kill -9 costs. A holder runs a COMMAND with descendants, another peer
// waits, and something of the holder is killed at some moment. The next COMMAND
// begins soon after the last process of the first one is dead, and never before.
//
// PEER_TEST_KILLS=N goes N times through every victim and moment, in place of
// once; -v prints how long each pause was. An N of 20 takes about ten minutes.
const killsVar = "PEER_TEST_KILLS"

// killTTL is so long that a pause below a third of it is nobody's patience: it is
// what is left of a lease at least, once it was renewed.
const killTTL = 12 * time.Second

// killed says what of a holder is killed -9.
type killed struct {
	name                 string
	peer, guard, command bool
	// bound is the longest pause.
	bound time.Duration
	// family is the COMMAND: alone, with a child that traps TERM, and with one
	// that also went into a session of its own.
	family []string
}

const (
	alone = `exec sleep 60`
	child = `sh -c 'trap "" TERM; while :; do sleep 0.1; done' & (sleep 60 &); : >"$0/ready"; while :; do sleep 0.02; done`
	far   = `setsid sh -c 'trap "" TERM; while :; do sleep 0.1; done' & ` + child
)

var victims = []killed{
	{name: "peer", peer: true, bound: killTTL / 4, family: []string{alone, child, far, "trap '' TERM; " + far}},
	{name: "COMMAND", command: true, bound: killTTL / 4, family: []string{alone, child}},
	{name: "guard", guard: true, bound: killTTL / 4, family: []string{alone, child, far}},
	{name: "peer and COMMAND", peer: true, command: true, bound: killTTL / 4, family: []string{alone, child, far}},
	// Nobody is left to speak for them: the lease decides.
	{name: "peer, guard and COMMAND", peer: true, guard: true, command: true, bound: killTTL * 2, family: []string{alone}},
}

// moments say when, from the one at which the holder gets the lock: while it is
// handed over and COMMAND starts; at its first renewal, which comes 100 ms after
// that; at rest; and while COMMAND ends by itself and the lock is released.
var moments = []struct {
	name string
	wait func() time.Duration
	slow time.Duration // a round trip meanwhile
	ends bool          // COMMAND ends by itself now
}{
	{name: "hand-over", wait: func() time.Duration { return rand.N(100 * time.Millisecond) }},
	{name: "renewal", wait: func() time.Duration { return 150*time.Millisecond + rand.N(150*time.Millisecond) }, slow: 20 * time.Millisecond},
	{name: "rest", wait: func() time.Duration { return 300*time.Millisecond + rand.N(time.Second) }},
	{name: "release", wait: func() time.Duration { return rand.N(15 * time.Millisecond) }, ends: true},
}

func TestKills(t *testing.T) {
	rounds, _ := strconv.Atoi(os.Getenv(killsVar))
	for name, start := range map[string]func(testing.TB) *testcluster.RedisServer{
		"redis":    func(t testing.TB) *testcluster.RedisServer { return testcluster.StartRedis(t) },
		"embedded": testcluster.StartEmbeddedRedis,
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t)
			c := lockClient(t, r)
			for _, v := range victims {
				for _, m := range moments {
					if rounds == 0 && m.name != "rest" && (name == "embedded" || v.guard && v.peer) {
						continue // for the latter each takes a lease
					}
					var pauses []time.Duration
					for i := range max(rounds, 1) {
						k := kill{t: t, r: r, c: c, v: v, name: fmt.Sprintf("%s-%s-%d", v.name, m.name, i)}
						if pause, ran := k.round(m.wait(), m.slow, m.ends, v.family[(len(v.family)-1+i)%len(v.family)]); ran {
							pauses = append(pauses, pause)
						}
					}
					slices.Sort(pauses)
					if n := len(pauses); n > 0 {
						t.Logf("%-24s at %-10s next begins after %4d ms, median of %d; %4d … %d ms", v.name, m.name,
							pauses[n/2].Milliseconds(), n, pauses[0].Milliseconds(), pauses[n-1].Milliseconds())
					}
				}
			}
		})
	}
}

// kill is one round of TestKills.
type kill struct {
	t    *testing.T
	r    *testcluster.RedisServer
	c    *lockclient.Client
	v    killed
	name string // of the lock
}

// round kills after wait, and returns how long after the end of the last process
// of the first COMMAND the next one began; ran is false when there was none.
//
// Every process of COMMAND has two files locked for as long as one of them lives.
// One is for the next COMMAND, whose first act is to look; the other for us.
func (k kill) round(wait, slow time.Duration, ends bool, family string) (pause time.Duration, ran bool) {
	t := k.t
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"alive", "watch"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if ends {
		// A daemon in a session of its own would be let go.
		family = `: >"$0/ready"; until test -e "$0/end"; do sleep 0.005; done`
		if !k.v.peer || !k.v.guard { // else nobody is left to stop a child
			family = `(trap '' TERM; sleep 60) & ` + family
		}
	}
	held, err := k.c.Acquire(context.Background(), k.name)
	if err != nil {
		t.Fatal(err)
	}
	first := k.lock("sh", "-c", `exec 8<"$0/alive" 9<"$0/watch"; flock -s 8; flock -s 9; echo $$ >"$0/command"; `+family, dir)
	k.waiters(1)
	next := k.lock("sh", "-c", `flock -n -x 9 9<"$0/alive" || echo alive; date +%s%N`, dir)
	k.waiters(2)
	if err := held.Release(context.Background()); err != nil {
		t.Fatal(err)
	}
	if ends {
		number(t, dir+"/command")
		eventually(t, "COMMAND is ready", func() bool { _, err := os.Stat(dir + "/ready"); return err == nil })
		if err := os.WriteFile(dir+"/end", nil, 0o600); err != nil {
			t.Fatal(err)
		}
	} else if wait > 100*time.Millisecond {
		number(t, dir+"/command") // it runs
	}
	k.r.Slow(slow)
	time.Sleep(wait)
	died := time.Now()
	for !k.kill(first.Process.Pid) { // what is to be killed has not begun yet
		time.Sleep(time.Millisecond)
		died = time.Now()
	}
	k.r.Slow(0)
	if at := k.lastAlive(dir+"/watch", next); !at.IsZero() {
		died = at
	}
	if got := next.code(); got != 0 {
		t.Errorf("%s: the next one ends with %d: %s", k.name, got, &next.errOut)
		return 0, false
	}
	f := strings.Fields(next.out.String())
	if f[0] == "alive" {
		t.Errorf("%s, after %v, with %q: a process of COMMAND was alive when the next began", k.name, wait, family)
	}
	at, err := strconv.ParseInt(f[len(f)-1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	// Without a COMMAND no guard knew of the hold yet: its claim decides.
	if _, err := os.Stat(dir + "/command"); err != nil {
		return 0, false
	}
	if pause = time.Unix(0, at).Sub(died); pause > k.v.bound {
		t.Errorf("%s, after %v, with %q: the next one began after %v, want %v at most", k.name, wait, family, pause, k.v.bound)
	}
	return pause, true
}

func (k kill) lock(command ...string) *process {
	k.t.Helper()
	p := peerLock(k.t, k.r, append([]string{"--ttl", killTTL.String(), "--grace", "300ms", k.name, "--"}, command...)...)
	if command[2][0] == 'e' {
		p.Stdout, p.Stderr = nil, nil // its orphans must not keep a pipe of ours open
	}
	return p.start()
}

func (k kill) waiters(n int) {
	k.t.Helper()
	eventually(k.t, "it waits", func() bool { return len(inspect(k.t, k.c, k.name).Waiters) == n })
}

// kill kills what there is of a holder at one moment, and reports whether there
// is something to be killed, or nothing left to wait for.
func (k kill) kill(peer int) bool {
	var pids []int
	guards := childrenOf(peer)
	if k.v.peer {
		pids = append(pids, peer)
	}
	for _, guard := range guards {
		if k.v.command {
			pids = append(pids, childrenOf(guard)...)
		}
		if k.v.guard && (k.v.peer || len(childrenOf(guard)) > 0) { // one without a COMMAND is replaced
			pids = append(pids, guard)
		}
	}
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	return len(pids) > 0 || !runs(peer)
}

// lastAlive returns when a lock on the file was seen last before next ended; the
// zero time if it never was.
func (k kill) lastAlive(file string, next *process) (last time.Time) {
	f, err := os.Open(file)
	if err != nil {
		k.t.Fatal(err)
	}
	defer f.Close()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
			last = time.Now()
		} else {
			_ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
		}
		select {
		case <-next.ended:
			return last
		case <-tick.C:
		}
	}
}

// childrenOf returns the direct children of a process.
func childrenOf(pid int) (pids []int) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, file := range tasks {
		b, _ := os.ReadFile(file)
		for f := range strings.FieldsSeq(string(b)) {
			if n, err := strconv.Atoi(f); err == nil {
				pids = append(pids, n)
			}
		}
	}
	return pids
}
