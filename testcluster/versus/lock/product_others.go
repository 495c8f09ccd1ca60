//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bsm/redislock"
	"github.com/go-redsync/redsync/v4"
	"github.com/go-redsync/redsync/v4/redis/goredis/v9"
	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"
	"github.com/redis/rueidis/rueidislock"
)

// or returns ttl, or what is usual when it is 0.
func or(ttl, usual time.Duration) time.Duration {
	if ttl == 0 {
		return usual
	}
	return ttl
}

func goRedis(addr string) *redis.Client { return redis.NewClient(&redis.Options{Addr: addr}) }

type redsyncClient struct {
	rdb     *redis.Client
	rs      *redsync.Redsync
	options []redsync.Option
}

func openRedsync(addr string, ttl time.Duration) (client, error) {
	rdb := goRedis(addr)
	c := &redsyncClient{rdb: rdb, rs: redsync.New(goredis.NewPool(rdb))}
	if ttl != 0 {
		c.options = []redsync.Option{redsync.WithExpiry(ttl)}
	}
	return c, nil
}

func (c *redsyncClient) pair(ctx context.Context, key string) error {
	m := c.rs.NewMutex(key, c.options...)
	if err := m.LockContext(ctx); err != nil {
		return err
	}
	_, err := m.UnlockContext(ctx)
	return err
}

func (c *redsyncClient) lock(ctx context.Context, key string) (hold, error) {
	m := c.rs.NewMutex(key, c.options...)
	for {
		err := m.LockContext(ctx)
		var taken *redsync.ErrTaken
		switch {
		case err == nil:
			return hold{release: func() error { _, err := m.Unlock(); return err }}, nil
		case ctx.Err() != nil:
			return hold{}, ctx.Err()
		case !errors.As(err, &taken) && !errors.Is(err, redsync.ErrFailed):
			return hold{}, err
		}
	}
}

func (c *redsyncClient) close() { c.rdb.Close() }

type redislockClient struct {
	rdb    *redis.Client
	locker *redislock.Client
	ttl    time.Duration
}

func openRedislock(addr string, ttl time.Duration) (client, error) {
	rdb := goRedis(addr)
	return &redislockClient{rdb, redislock.New(rdb), or(ttl, 15*time.Second)}, nil
}

func (c *redislockClient) pair(ctx context.Context, key string) error {
	l, err := c.locker.Obtain(ctx, key, c.ttl, nil)
	if err != nil {
		return err
	}
	return l.Release(ctx)
}

func (c *redislockClient) lock(ctx context.Context, key string) (hold, error) {
	opt := &redislock.Options{RetryStrategy: redislock.LinearBackoff(100 * time.Millisecond)}
	for {
		l, err := c.locker.Obtain(ctx, key, c.ttl, opt)
		switch {
		case err == nil:
			return hold{release: func() error { return l.Release(context.Background()) }}, nil
		case ctx.Err() != nil:
			return hold{}, ctx.Err()
		case !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, redislock.ErrNotObtained):
			return hold{}, err
		}
	}
}

func (c *redislockClient) close() { c.rdb.Close() }

type rueidislockClient struct{ locker rueidislock.Locker }

// patience is how long an attempt of rueidislock may take. With its default, 20
// ms, it waits for ever for a lock that is free as soon as one takes longer,
// which on a busy machine does happen.
const patience = time.Second

func openRueidislock(addr string, ttl time.Duration) (client, error) {
	return newRueidislock(addr, ttl, patience)
}

// openRueidislockAsIs opens one with that default.
func openRueidislockAsIs(addr string, ttl time.Duration) (client, error) {
	return newRueidislock(addr, ttl, 0)
}

func newRueidislock(addr string, ttl, patience time.Duration) (client, error) {
	l, err := rueidislock.NewLocker(rueidislock.LockerOption{
		ClientOption:   rueidis.ClientOption{InitAddress: []string{addr}},
		KeyMajority:    1,
		NoLoopTracking: true,
		KeyValidity:    ttl,
		TryNextAfter:   patience,
	})
	if err != nil {
		return nil, err
	}
	return rueidislockClient{l}, nil
}

func (c rueidislockClient) pair(ctx context.Context, key string) error {
	_, cancel, err := c.locker.WithContext(ctx, key)
	if err != nil {
		return err
	}
	cancel()
	return nil
}

func (c rueidislockClient) lock(ctx context.Context, key string) (hold, error) {
	held, cancel, err := c.locker.WithContext(ctx, key)
	if err != nil {
		return hold{}, err
	}
	return hold{func() error { cancel(); return nil }, held.Done()}, nil
}

func (c rueidislockClient) close() { c.locker.Close() }

// rawClient is the least that one needs.
type rawClient struct {
	rdb *redis.Client
	ttl time.Duration
}

var rawRelease = redis.NewScript(`if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0`)

func openRaw(addr string, ttl time.Duration) (client, error) {
	return &rawClient{goRedis(addr), or(ttl, 15*time.Second)}, nil
}

func (c *rawClient) pair(ctx context.Context, key string) error {
	ok, err := c.rdb.SetNX(ctx, key, "token", c.ttl).Result()
	if err != nil || !ok {
		return errors.Join(err, errors.New("raw: not free"))
	}
	return c.unlock(ctx, key, "token")
}

func (c *rawClient) unlock(ctx context.Context, key, token string) error {
	return rawRelease.Run(ctx, c.rdb, []string{key}, token).Err()
}

func (c *rawClient) lock(ctx context.Context, key string) (hold, error) {
	token := fmt.Sprintf("%p", c)
	for {
		ok, err := c.rdb.SetNX(ctx, key, token, c.ttl).Result()
		if err != nil {
			return hold{}, err
		}
		if ok {
			return hold{release: func() error { return c.unlock(context.Background(), key, token) }}, nil
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return hold{}, ctx.Err()
		}
	}
}

func (c *rawClient) close() { c.rdb.Close() }
