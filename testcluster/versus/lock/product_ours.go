//go:build linux

package main

import (
	"context"
	"time"

	"github.com/peerhq/peer/lockclient"
)

type oursClient struct{ c *lockclient.Client }

func openOurs(addr string, ttl time.Duration) (client, error) {
	c, err := lockclient.Start(lockclient.Config{URL: "redis://" + addr, TTL: ttl})
	if err != nil {
		return nil, err
	}
	return oursClient{c}, nil
}

func (o oursClient) pair(ctx context.Context, key string) error {
	l, err := o.c.Acquire(ctx, key)
	if err != nil {
		return err
	}
	return l.Release(ctx)
}

func (o oursClient) lock(ctx context.Context, key string) (hold, error) {
	l, err := o.c.Acquire(ctx, key)
	if err != nil {
		return hold{}, err
	}
	return hold{func() error { return l.Release(context.Background()) }, l.Lost()}, nil
}

func (o oursClient) close() { o.c.Close() }
