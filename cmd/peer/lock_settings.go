package main

import (
	"errors"
	"fmt"

	"github.com/peerhq/peer/agent"
	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/lockclient"
)

// lockSettings says where locks live: in the Redis of the settings or, when
// there is none, in the one that is embedded in a `peer dev` on this host.
func (inv *invocation) lockSettings() (lockclient.Config, error) {
	cfg, err := inv.settings()
	if err != nil {
		return lockclient.Config{}, err
	}
	if cfg.Redis.URL == "" {
		if cfg.Redis.URL, err = inv.embeddedRedis(); err != nil {
			return lockclient.Config{}, err
		}
	}
	return redisOf(cfg), nil
}

func redisOf(cfg agent.Config) lockclient.Config {
	l := cfg.Redis.Client()
	l.Node = cfg.Name
	return l
}

// embeddedRedis asks the local agent. Its addresses of a real Redis are no use
// here: the password is not in them, nor should it be.
func (inv *invocation) embeddedRedis() (string, error) {
	const fix = "set --redis URL, PEER_REDIS_URL, or redis.url in " + defaultConfig
	c, err := inv.client()
	if err != nil {
		return "", err
	}
	s, err := c.Status(inv)
	var unreachable *api.UnreachableError
	if errors.As(err, &unreachable) {
		return "", withCode(exitUnavailable, fmt.Errorf("no Redis is set, and no agent answers at %s to ask for one: %s", c.Addr(), fix))
	}
	if err != nil {
		return "", err
	}
	b := s.Locks.Backend
	switch b.Kind {
	case "embedded":
		return "redis://" + b.Addr, nil
	case "redis":
		return "", withCode(exitConfig, fmt.Errorf("no Redis is set; the agent at %s uses the one at %s, but does not hand out its password: %s", c.Addr(), b.Addr, fix))
	}
	return "", withCode(exitConfig, fmt.Errorf("no Redis is set, and the agent at %s has none either: %s", c.Addr(), fix))
}
