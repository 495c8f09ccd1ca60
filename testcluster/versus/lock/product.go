//go:build linux

package main

import (
	"context"
	"time"
)

// product is one library under measure.
type product struct {
	name   string
	module string // "" for what has no version of its own
	// sends are the commands that it sends itself; others of INFO commandstats
	// are called by its scripts.
	sends []string
	// signals says that it tells a holder of the loss of a lock.
	signals bool
	open    func(addr string, ttl time.Duration) (client, error)
	asIs    func(addr string, ttl time.Duration) (client, error) // with a default that open had to change
}

// client is one user of a Redis, with connections of its own.
type client interface {
	// pair takes a lock that is free and gives it back, with nothing around it.
	pair(ctx context.Context, key string) error
	// lock waits for a lock.
	lock(ctx context.Context, key string) (hold, error)
	close()
}

// hold is a lock that is held.
type hold struct {
	release func() error
	lost    <-chan struct{} // closed when it is lost; nil when nobody says so
}

// products in the order of the columns.
var products = []product{
	{name: ours, module: "github.com/peerhq/peer", sends: []string{"evalsha", "eval", "ping"}, signals: true, open: openOurs},
	{name: "redsync", module: "github.com/go-redsync/redsync/v4", sends: []string{"set", "evalsha", "eval"}, open: openRedsync},
	{name: "redislock", module: "github.com/bsm/redislock", sends: []string{"evalsha", "eval"}, open: openRedislock},
	{name: "rueidislock", module: "github.com/redis/rueidis", sends: []string{"evalsha", "eval", "ping"}, signals: true, open: openRueidislock, asIs: openRueidislockAsIs},
	{name: raw, module: "github.com/redis/go-redis/v9", sends: []string{"set", "evalsha", "eval"}, open: openRaw},
}

const (
	ours = "ours"
	raw  = "raw"
)

func productOf(name string) (product, bool) {
	for _, p := range products {
		if p.name == name {
			return p, true
		}
	}
	return product{}, false
}
