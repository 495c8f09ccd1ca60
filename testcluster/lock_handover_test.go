package testcluster_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/peerhq/peer/lockclient"
)

// TestLockHandOver: holders are programs on two hosts; the one that dies is on a
// host that loses power, so that nobody can tell Redis.
func TestLockHandOver(t *testing.T) {
	in(t, func(w *World) {
		const ttl = 2 * time.Second
		nodes := []*Node{
			w.Start(Spec{Name: "p0", Redis: true}),
			w.Start(Spec{Name: "p1", Redis: true}),
		}
		line := &lifeline{dialer: nodes[0].Dial}
		first := lockClient(w, lockclient.Config{Node: "p0", TTL: ttl, Dial: line.dial})
		second := lockClient(w, lockclient.Config{Node: "p1", TTL: ttl, Dial: nodes[1].Dial})
		held, err := first.Acquire(w.Context(), "demo")
		if err != nil {
			w.Fatal(err)
		}
		if _, err := second.TryAcquire(w.Context(), "demo"); !errors.Is(err, lockclient.ErrHeld) {
			w.Fatalf("a held lock: %v, want ErrHeld", err)
		}
		waiting := make(chan *lockclient.Lock, 1)
		go func() {
			l, err := second.Acquire(w.Context(), "demo")
			if err != nil {
				w.Errorf("wait for the lock: %v", err)
			}
			waiting <- l
		}()
		w.Eventually(2*time.Second, "the page shows holder and waiter", func() error {
			doc, err := nodes[1].Client().Locks(w.Context())
			if err != nil {
				return err
			}
			if len(doc.Locks) != 1 || doc.Locks[0].Holder == nil || doc.Locks[0].Holder.Node != "p0" || len(doc.Locks[0].Waiters) != 1 {
				return fmt.Errorf("got %+v", doc.Locks)
			}
			return nil
		})

		// The lock is kept while its holder lives.
		w.Sleep(2*ttl + ttl/2)
		select {
		case <-waiting:
			w.Fatal("granted while it was held")
		default:
		}
		if !held.Valid() {
			w.Fatal("a holder that renews is not valid")
		}

		start := time.Now()
		if w.Name == "virtual" {
			nodes[0].PowerOff()
		} else {
			line.kill()
		}
		l := <-waiting
		took := time.Since(start)
		w.Logf("the waiter held it %v after the holder had died, ttl %v", took, ttl)
		if took > w.Limit(ttl+500*ms) {
			w.Errorf("hand-over took %v, want ttl %v and little more", took, ttl)
		}
		if l == nil {
			return
		}
		if l.Fence() <= held.Fence() {
			w.Errorf("fence %d after %d: it must rise", l.Fence(), held.Fence())
		}
		if w.Name == "virtual" && held.Valid() {
			w.Error("two holders believe in it at the same time")
		}
		if err := l.Release(w.Context()); err != nil {
			w.Error(err)
		}
	}, both)
}

// lockClient is a program that takes locks in the world's Redis.
func lockClient(w *World, cfg lockclient.Config) *lockclient.Client {
	w.Helper()
	cfg.URL, cfg.Command = "redis://"+w.StartRedis().Addr(), "test"
	c, err := lockclient.Start(cfg)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { c.Close() })
	return c
}

// lifeline is the network of one program, to be killed.
type lifeline struct {
	dialer dialFunc

	mu    sync.Mutex
	conns []net.Conn
	dead  bool
}

func (l *lifeline) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := l.dialer(ctx, network, addr)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil && l.dead {
		c.Close()
		return nil, net.ErrClosed
	}
	l.conns = append(l.conns, c)
	return c, err
}

func (l *lifeline) kill() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = true
	for _, c := range l.conns {
		if c != nil {
			c.Close()
		}
	}
}
