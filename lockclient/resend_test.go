package lockclient_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/peerhq/peer/lockclient"
)

// A question runs, its answer is lost with the connection, and it is sent again
// word for word. It finds what it did the first time: the place that it has in the
// queue, before those who came meanwhile.
func TestResentKeepsItsPlace(t *testing.T) {
	inEveryWorld(t, func(t *testing.T, w world) {
		w = w.calm()
		a, c := w.client("a"), w.client("c")
		l := hold(t, a, "demo")
		var behind <-chan won
		lose := &loser{meanwhile: func() { behind = later(t, c, "demo") }}
		b := w.client("b", lose.on)
		hold(t, b, "warm").Release(t.Context()) // its connection is there, and its scripts
		lose.armed.Store(true)
		first := later(t, b, "demo")
		if lose.armed.Load() {
			t.Fatal("no answer was lost: this test shows nothing")
		}
		info := must[lockclient.Info](t)(a.Inspect(t.Context(), "demo"))
		var nodes []string
		for _, waiter := range info.Waiters {
			nodes = append(nodes, waiter.Node)
		}
		if got := fmt.Sprint(nodes); got != "[b c]" {
			t.Errorf("the queue is %s, want [b c]", got)
		}
		for i, next := range []<-chan won{first, behind} {
			if err := l.Release(t.Context()); err != nil {
				t.Fatal(err)
			}
			won := within(t, w.slack+10*time.Second, fmt.Sprint("number ", i+1), next)
			if won.err != nil {
				t.Fatal(won.err)
			}
			l = won.lock
		}
	})
}

// The same for a place of a semaphore: it is taken once.
func TestResentTakesOneSlot(t *testing.T) {
	inEveryWorld(t, func(t *testing.T, w world) {
		w = w.calm()
		a := w.client("a")
		slots := lockclient.Slots(3)
		hold(t, a, "demo", slots)
		lose := &loser{}
		b := w.client("b", lose.on)
		hold(t, b, "warm").Release(t.Context())
		lose.armed.Store(true)
		l := hold(t, b, "demo", slots)
		if lose.armed.Load() {
			t.Fatal("no answer was lost: this test shows nothing")
		}
		if info := must[lockclient.Info](t)(a.Inspect(t.Context(), "demo")); len(info.Holders) != 2 {
			t.Errorf("%d hold it, want 2: %+v", len(info.Holders), info.Holders)
		}
		if err := l.Release(t.Context()); err != nil {
			t.Error(err)
		}
		if info := must[lockclient.Info](t)(a.Inspect(t.Context(), "demo")); len(info.Holders) != 1 {
			t.Errorf("%d hold it after the release, want 1", len(info.Holders))
		}
	})
}

// A loser breaks the connection on which the answer to the next question about
// the lock demo comes, in place of that answer.
type loser struct {
	armed     atomic.Bool
	meanwhile func() // called between the answer and its loss, if not nil
}

func (o *loser) on(cfg *lockclient.Config) {
	dial := cfg.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &losing{Conn: conn, loser: o}, nil
	}
}

type losing struct {
	net.Conn
	loser *loser
	asked atomic.Bool
}

func (c *losing) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("peer:{demo}")) {
		c.asked.Store(true)
	}
	return c.Conn.Write(b)
}

func (c *losing) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		return n, err
	}
	if c.asked.Load() && c.loser.armed.CompareAndSwap(true, false) {
		c.Conn.Close()
		if c.loser.meanwhile != nil {
			c.loser.meanwhile()
		}
		return 0, io.EOF
	}
	return n, err
}
