package cluster

import (
	"context"
	"time"

	"github.com/peerhq/peer/cluster/internal/core"
)

// leaveMost is how long memberlist may take to spread that this peer leaves: three
// of its gossip rounds. Its members have our own word by then.
const leaveMost = 600 * time.Millisecond

// exchangeMost is how long a peer that leaves waits for the answer of one that may
// know it already.
const exchangeMost = 250 * time.Millisecond

// Leave says goodbye to everybody, so that they show this peer as left at
// once, and waits until that is sent, at most until ctx is done. The
// peer keeps answering until Close; it cannot join again.
func (c *Cluster) Leave(ctx context.Context) error {
	c.mu.Lock()
	if c.left || c.closed {
		c.mu.Unlock()
		return nil
	}
	c.left = true
	close(c.leaving)
	c.mu.Unlock()
	c.keys.Leave()
	c.exchanged()
	alone := c.alone()
	c.ask(func(k *core.Core) {
		c.carryOut(k.Step(c.now(), core.Leave{}))
		c.publish()
	})
	c.session.Load().watch.Leave()
	c.out.flush()
	if alone {
		return nil
	}
	timeout := leaveMost
	if d, ok := ctx.Deadline(); ok {
		timeout = min(timeout, max(time.Until(d), time.Millisecond))
	}
	_ = c.session.Load().ml.Leave(timeout) // a time-out means that the others leave as well
	return nil
}

// exchanged waits until no exchange is under way, for a round trip at most: whoever
// has taken this peer in by now has answered, and shall be told that it leaves.
func (c *Cluster) exchanged() {
	for end := time.Now().Add(exchangeMost); c.exchanges.Load() > 0 && time.Now().Before(end); {
		time.Sleep(exchangeMost / 50)
	}
}
