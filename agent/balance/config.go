package balance

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/selector"
)

// Config says what to follow and how to choose. The zero value follows all
// members of the cluster by the agent at its usual address.
type Config struct {
	// Service is the name of the service. Default: the members themselves, with
	// their gossip addresses.
	Service string
	// Tags narrow Service to instances with all of these tags.
	Tags []string
	// MemberTags narrow to members with all of these tags.
	MemberTags map[string]string

	// Agent is where the local agent answers, in the forms that api.NewClient
	// takes. Default: the environment's PEER_HTTP_ADDR, then api.DefaultAddr.
	Agent string
	// Client is used instead of Agent, for an agent with a token or TLS. The
	// Watch does not close it.
	Client *api.Client

	// Policy chooses among the peers that are fit. Default: round robin. Weights
	// are those of the services; round trips, for Nearest, are those from the
	// agent, at most Wait old.
	Policy selector.Policy
	// Seed is this program's name, on which the order of turns depends. Default:
	// drawn at random, which is right for many clients of one service.
	Seed string
	// ZoneTag is the tag of members that names their zone: peers of Home go
	// first, with spill-over when too few of them are left. Default: no zones.
	ZoneTag string
	// Home is the zone of this program. Default: that of the agent.
	Home string
	// Tune may change the selector's configuration further, such as Cooldown,
	// SlowStart or the rule for Self. Default: nothing.
	Tune func(*selector.Config[*Peer])

	// OnChange is called with each new view that has other peers than the last,
	// the first included, and when the agent goes away or comes back: Err tells.
	// The calls come one after the other from the Watch's goroutine, and must be
	// quick. They must not call Close. Default: nobody is told.
	OnChange func(View)

	// Wait is how long one read waits for a change, from a second to ten
	// minutes. A hung agent is noticed only when it has passed, and the Client's
	// time-out after it. Default: 30 s.
	Wait time.Duration
	// Settle is how long an agent that has just restarted may take to find its
	// cluster again, during which a view that lacks peers of the last one is not
	// believed. Negative: every view is believed. Default: 3 s.
	Settle time.Duration
}

func (c Config) withDefaults() Config {
	if c.Agent == "" {
		c.Agent = os.Getenv("PEER_HTTP_ADDR")
	}
	if c.Wait == 0 {
		c.Wait = 30 * time.Second
	}
	if c.Settle == 0 {
		c.Settle = 3 * time.Second
	}
	return c
}

// validate reports every mistake in c.
func (c Config) validate() error {
	var errs []error
	if len(c.Tags) > 0 && c.Service == "" {
		errs = append(errs, errors.New("tags without a service: set Service too, or use MemberTags"))
	}
	if _, err := selector.ParsePolicy(c.Policy.String()); err != nil {
		errs = append(errs, fmt.Errorf("policy %d: use one of the selector's constants", c.Policy))
	}
	if c.Home != "" && c.ZoneTag == "" {
		errs = append(errs, errors.New("a home without zones: set ZoneTag too, the tag of members that names theirs"))
	}
	if c.Wait < time.Second || c.Wait > 10*time.Minute {
		errs = append(errs, fmt.Errorf("wait %v: want a second to ten minutes", c.Wait))
	}
	return errors.Join(errs...)
}
