//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/peerhq/peer/lockclient"
	"github.com/peerhq/peer/testcluster"
)

// guardOf returns the guard process of a peer.
func guardOf(t *testing.T, peer int) (pid int) {
	t.Helper()
	eventually(t, "a guard", func() bool {
		for _, p := range childrenOf(peer) {
			if b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p)); string(b) == "lock-guard\n" {
				pid = p
			}
		}
		return pid != 0
	})
	return pid
}

// A peer that is only stopped has its lock until its lease ends, also when its
// COMMAND is over and its guard has nothing left to guard.
func TestLockStoppedIsNotDead(t *testing.T) {
	r := testcluster.StartAnyRedis(t)
	c := lockClient(t, r)
	dir := t.TempDir()
	p := peerLock(t, r, "--ttl", "1m", "demo", "--", "sh", "-c", `echo $$ >"$0/command"; until test -e "$0/end"; do sleep 0.02; done`, dir)
	p.Stdout, p.Stderr = nil, nil
	p.start()
	command, guard := number(t, dir+"/command"), guardOf(t, p.Process.Pid)
	_ = p.Process.Signal(syscall.SIGSTOP)
	if err := os.WriteFile(dir+"/end", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "COMMAND ends", func() bool { return !runs(command) })
	for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); {
		if info := inspect(t, c, "demo"); info.Holder == nil || info.Holder.PID != p.Process.Pid {
			t.Fatalf("the lock of a stopped peer is %+v", info)
		}
	}
	if !runs(guard) {
		t.Error("the guard is gone before the lock is given back")
	}
	// Killed now, between the end of COMMAND and its own release: no lease is waited for.
	_ = p.Process.Kill()
	start := time.Now()
	eventually(t, "the lock is free", func() bool { return inspect(t, c, "demo").Holder == nil })
	t.Logf("free after %v", time.Since(start))
	eventually(t, "the guard ends", func() bool { return !runs(guard) })
}

// The guard knows the password, and nobody can read that off it. It stays in no
// process list, environment or file, nor does COMMAND get it.
func TestLockGuardKeepsSecrets(t *testing.T) {
	const secret = "hush-hush"
	r := testcluster.StartRedis(t, "--requirepass", secret)
	dir := t.TempDir()
	start := func() *process {
		p := peerLock(t, nil, "--ttl", "10m", "demo", "--", "sh", "-c", `env >"$0/env"; echo $$ >"$0/command"; exec sleep 60`, dir)
		p.Env = append(p.Env, "PEER_REDIS_URL=redis://:"+secret+"@"+r.Addr())
		p.Stdout, p.Stderr = nil, nil
		return p.start()
	}
	p := start()
	command := number(t, dir+"/command")
	guard := guardOf(t, p.Process.Pid)
	for _, file := range []string{
		dir + "/env",
		fmt.Sprintf("/proc/%d/cmdline", guard), fmt.Sprintf("/proc/%d/environ", guard),
		fmt.Sprintf("/proc/%d/cmdline", command), fmt.Sprintf("/proc/%d/environ", command),
	} {
		b, err := os.ReadFile(file)
		if err != nil || len(b) == 0 || strings.Contains(string(b), secret) {
			t.Errorf("%s: %q, %v", file, b, err)
		}
	}
	// It can use it.
	if err := os.Remove(dir + "/command"); err != nil {
		t.Fatal(err)
	}
	_ = p.Process.Kill()
	start()
	number(t, dir+"/command") // after ten minutes, without a guard that knows
}

// Who is next has its guard already, that guard ends with it, and is not missed
// when it dies before its time.
func TestLockGuardAhead(t *testing.T) {
	r := testcluster.StartAnyRedis(t)
	c := lockClient(t, r)
	held, err := c.Acquire(context.Background(), "demo", lockclient.WithTTL(10*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		p := peerLock(t, r, "demo", "--", "true").start()
		guard := guardOf(t, p.Process.Pid)
		_ = p.Process.Signal(s)
		if got := p.code(); got != 128+int(s) {
			t.Errorf("%v: code %d: %s", s, got, &p.errOut)
		}
		eventually(t, "its guard ends", func() bool { return !runs(guard) })
		if n := len(inspect(t, c, "demo").Waiters); n != 0 {
			t.Errorf("%v: %d are left in the queue", s, n)
		}
	}
	for _, hurt := range []bool{false, true} {
		p := peerLock(t, r, "demo", "--", "sh", "-c", `echo "$PEER_LOCK_FENCE $PPID"`).start()
		guard := guardOf(t, p.Process.Pid)
		if hurt {
			_ = syscall.Kill(guard, syscall.SIGKILL)
		}
		if err := held.Release(context.Background()); err != nil {
			t.Fatal(err)
		}
		if got := p.code(); got != 0 {
			t.Errorf("code %d: %s", got, &p.errOut)
		}
		var fence uint64
		var parent int
		if _, err := fmt.Sscan(p.out.String(), &fence, &parent); err != nil || fence <= held.Fence() || (parent == guard) == hurt {
			t.Errorf("fence %d, parent %d with guard %d, hurt %v: %v", fence, parent, guard, hurt, err)
		}
		if held, err = c.Acquire(context.Background(), "demo", lockclient.WithTTL(10*time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
}

// A peer that was granted the lock and is killed before it knows.
func TestLockKilledInTheGrant(t *testing.T) {
	r := testcluster.StartAnyRedis(t)
	c := lockClient(t, r)
	held, err := c.Acquire(context.Background(), "demo", lockclient.WithTTL(10*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	p := peerLock(t, r, "--ttl", "10m", "demo", "--", "true").start()
	guardOf(t, p.Process.Pid)
	eventually(t, "both listen", func() bool { return r.Listeners() == 2 })
	_ = p.Process.Signal(syscall.SIGSTOP)
	if err := held.Release(context.Background()); err != nil {
		t.Fatal(err)
	}
	if info := inspect(t, c, "demo"); info.Holder == nil || info.Holder.PID != p.Process.Pid {
		t.Fatalf("got %+v, want it granted to a stopped peer", info)
	}
	start := time.Now()
	_ = p.Process.Kill()
	// Its claim is 30 s.
	eventually(t, "the lock is free", func() bool { return inspect(t, c, "demo").Holder == nil })
	t.Logf("free after %v", time.Since(start))
}
