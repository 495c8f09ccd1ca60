package lockclient

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// ErrNotReplicated: too few replicas confirmed the grant in time, see
// Config.WaitReplicas. It was given back.
var ErrNotReplicated = errors.New("lock not replicated")

// confirm returns nil when enough replicas know of the grant of r, which costs
// two round trips. A replica that knows of a write knows of all before it: so a
// renewal is sent, and on the same connection the question for it.
func (c *Client) confirm(ctx context.Context, l *Lock) error {
	_, ended, err := detach(c, ctx, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, c.confirmOn(ctx, l)
	})
	if err != nil {
		l.abandon(ended)
	}
	return err
}

func (c *Client) confirmOn(ctx context.Context, l *Lock) error {
	node, ok := c.calls.(*redis.Client)
	if cluster, clustered := c.calls.(*redis.ClusterClient); clustered {
		var err error
		if node, err = cluster.MasterForKey(ctx, l.r.keys[0]); err != nil {
			return explain(c.addr, err)
		}
	} else if !ok {
		return fmt.Errorf("wait for replicas: unexpected client %T", c.calls)
	}
	conn := node.Conn()
	defer conn.Close()
	sent := now()
	s, args := l.renewal()
	args[1] = &s.hash
	cmd := redis.NewStringCmd(ctx, args...)
	err := conn.Process(ctx, cmd)
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		c.teach()
		cmd = redis.NewStringCmd(ctx, s.withSource(args)...)
		err = conn.Process(ctx, cmd)
	}
	if err == nil {
		err = decodeOutcome(s, cmd.Val())
	}
	if err != nil {
		return explain(c.addr, err)
	}
	l.renewed(sent)
	patience := max(l.r.ttl/4, 100*time.Millisecond)
	n, err := conn.Wait(ctx, c.cfg.WaitReplicas, patience).Result()
	switch {
	case err != nil:
		return explain(c.addr, err)
	case n < int64(c.cfg.WaitReplicas):
		return fmt.Errorf("%w: %d of %d replicas confirmed within %v", ErrNotReplicated, n, c.cfg.WaitReplicas, patience)
	}
	return nil
}
