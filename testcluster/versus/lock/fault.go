//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// waiterEnv makes this program a waiter that is to be killed: "product addr key".
const waiterEnv = "PEER_VERSUS_WAITER"

// waiter waits for a lock for as long as it lives, which its caller ends.
func waiter(job string) int {
	var name, addr, key string
	_, err := fmt.Sscan(job, &name, &addr, &key)
	p, ok := productOf(name)
	if err != nil || !ok {
		fmt.Fprintf(os.Stderr, "lock: cannot wait for %q\n", job)
		return 1
	}
	c, err := p.open(addr, 0)
	if err == nil {
		err = c.pair(context.Background(), fmt.Sprint("warm", os.Getpid()))
	}
	if err == nil {
		fmt.Println("waiting")
		_, err = c.lock(context.Background(), key)
	}
	fmt.Fprintln(os.Stderr, "lock: waiter:", err)
	return 1
}

// limit is how long a row waits for what may never come.
const limit = 30 * time.Second

// passedOn releases h and returns when another has the lock that got reports.
func passedOn(ctx context.Context, h hold, got <-chan time.Time) (time.Duration, error) {
	begun := time.Now()
	if err := h.release(); err != nil {
		return 0, err
	}
	select {
	case at := <-got:
		return at.Sub(begun), nil
	case <-time.After(limit):
		return 0, nil
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// waitFor has c wait for key, and says when it has it.
func waitFor(ctx context.Context, c client, key string) <-chan time.Time {
	got := make(chan time.Time, 1)
	go func() {
		if h, err := c.lock(ctx, key); err == nil {
			got <- time.Now()
			_ = h.release()
		}
	}()
	return got
}

// queueUp is the time that a waiter is given to be in the queue, if there is one.
const queueUp = 300 * time.Millisecond

// gone has eight processes wait ahead and kills them.
func gone(ctx context.Context, l *lab) error {
	return l.inTurn(func(p product) error {
		team, end, err := l.team(ctx, p, 2)
		if err != nil {
			return err
		}
		defer end()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		key := p.name
		h, err := team[0].lock(ctx, key)
		if err != nil {
			return err
		}
		var dead []*exec.Cmd
		defer func() {
			for _, cmd := range dead {
				cmd.Process.Kill()
				cmd.Wait()
			}
		}()
		for range 8 {
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = append(os.Environ(), waiterEnv+"="+strings.Join([]string{p.name, l.srv.addr, key}, " "))
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			out, err := cmd.StdoutPipe()
			if err != nil {
				return err
			}
			if err := cmd.Start(); err != nil {
				return err
			}
			dead = append(dead, cmd)
			if line, err := bufio.NewReader(out).ReadString('\n'); line != "waiting\n" {
				return errors.Join(fmt.Errorf("waiter says %q", line), err)
			}
		}
		if err := wait(ctx, queueUp); err != nil {
			return err
		}
		got := waitFor(ctx, team[1], key)
		if err := wait(ctx, queueUp); err != nil {
			return err
		}
		for _, cmd := range dead {
			cmd.Process.Kill()
			cmd.Wait()
		}
		dead = nil
		if err := wait(ctx, 50*time.Millisecond); err != nil {
			return err
		}
		return l.next("gone", p, ctx, h, got)
	})
}

// next reports how long it takes until the next one has what h holds.
func (l *lab) next(row string, p product, ctx context.Context, h hold, got <-chan time.Time) error {
	took, err := passedOn(ctx, h, got)
	switch {
	case err != nil:
		return err
	case took == 0:
		l.never(row, p, fmt.Sprintf("never in %v", limit))
	default:
		l.report(row, p, inMillis(took))
	}
	return nil
}

// away has two clients wait ahead and cuts them off.
func away(ctx context.Context, l *lab) error {
	const ttl = 3 * time.Second
	return l.inTurn(func(p product) error {
		ctx, cancel := context.WithCancel(ctx)
		proxy, err := startProxy(l.srv.addr, 0)
		if err != nil {
			cancel()
			return err
		}
		var clients []client
		defer func() {
			cancel()
			proxy.close()
			for _, c := range clients {
				c.close()
			}
		}()
		open := func(addr string) (client, error) {
			c, err := p.open(addr, ttl)
			if err == nil {
				clients = append(clients, c)
				err = c.pair(ctx, fmt.Sprint("warm", len(clients)))
			}
			return c, err
		}
		holder, err := open(l.srv.addr)
		if err != nil {
			return err
		}
		h, err := holder.lock(ctx, p.name)
		if err != nil {
			return err
		}
		for range 2 {
			c, err := open(proxy.addr)
			if err != nil {
				return err
			}
			waitFor(ctx, c, p.name)
			if err := wait(ctx, queueUp); err != nil {
				return err
			}
		}
		c, err := open(l.srv.addr)
		if err != nil {
			return err
		}
		got := waitFor(ctx, c, p.name)
		if err := wait(ctx, queueUp); err != nil {
			return err
		}
		proxy.stall()
		return l.next("away", p, ctx, h, got)
	})
}

// told cuts holders off at eight phases of their renewals, all at one time.
func told(ctx context.Context, l *lab) error {
	return l.inTurn(func(p product) error {
		if !p.signals {
			l.never("told", p, "no signal")
			return nil
		}
		const phases = 8
		var mu sync.Mutex
		worst := time.Duration(1<<63 - 1)
		err := crowd(phases, func(i int) error {
			margin, err := l.cutOff(ctx, p, fmt.Sprint(p.name, i), 1100*time.Millisecond+time.Duration(i)*time.Second/phases)
			mu.Lock()
			defer mu.Unlock()
			worst = min(worst, margin)
			return err
		})
		if err != nil {
			return err
		}
		l.report("told", p, inMillis(worst))
		return nil
	})
}

// cutOff cuts the holder of key off after it has had it for a while, and returns
// how long after it was told of that the next one has it.
func (l *lab) cutOff(ctx context.Context, p product, key string, after time.Duration) (time.Duration, error) {
	const ttl = 2 * time.Second
	ctx, cancel := context.WithTimeout(ctx, limit)
	proxy, err := startProxy(l.srv.addr, 0)
	if err != nil {
		cancel()
		return 0, err
	}
	holder, err1 := p.open(proxy.addr, ttl)
	next, err2 := p.open(l.srv.addr, ttl)
	defer func() {
		cancel()
		proxy.close()
		for _, c := range []client{holder, next} {
			if c != nil {
				c.close()
			}
		}
	}()
	if err := errors.Join(err1, err2); err != nil {
		return 0, err
	}
	// Not ctx: a library may end a hold with the context of its acquire.
	h, err := holder.lock(context.Background(), key)
	if err != nil {
		return 0, err
	}
	heard := make(chan time.Time, 1)
	go func() {
		select {
		case <-h.lost:
			heard <- time.Now()
		case <-ctx.Done():
		}
	}()
	got := waitFor(ctx, next, key)
	if err := wait(ctx, after); err != nil {
		return 0, err
	}
	proxy.stall()
	var toldAt, nextAt time.Time
	for toldAt.IsZero() || nextAt.IsZero() {
		select {
		case toldAt = <-heard:
		case nextAt = <-got:
		case <-ctx.Done():
			return 0, fmt.Errorf("holder told %v, next one got it %v, of: %w", !toldAt.IsZero(), !nextAt.IsZero(), context.Cause(ctx))
		}
	}
	return nextAt.Sub(toldAt), nil
}

// far takes a free lock over a long way, twice.
func far(ctx context.Context, l *lab) error {
	const rtt, limit = 120 * time.Millisecond, 4 * time.Second
	return l.inTurn(func(p product) error {
		near, end, err := l.team(ctx, p, 1) // so that the server knows the scripts
		if err != nil {
			return err
		}
		defer end()
		_ = near
		proxy, err := startProxy(l.srv.addr, rtt)
		if err != nil {
			return err
		}
		defer proxy.close()
		var c client
		defer func() {
			if c != nil {
				c.close()
			}
		}()
		for _, row := range []string{"far-first", "far"} {
			try, cancel := context.WithTimeout(ctx, limit)
			begun := time.Now()
			if c == nil {
				open := p.open
				if p.asIs != nil {
					open = p.asIs
				}
				if c, err = open(proxy.addr, 0); err != nil {
					cancel()
					return err
				}
			}
			h, err := c.lock(try, p.name+row)
			took := time.Since(begun)
			if err == nil {
				l.report(row, p, inMillis(took))
				err = h.release()
			} else if errors.Is(try.Err(), context.DeadlineExceeded) {
				l.never(row, p, fmt.Sprintf("never in %v", limit))
				err = nil
			}
			cancel()
			if err != nil && !errors.Is(err, io.EOF) {
				return err
			}
		}
		return nil
	})
}
