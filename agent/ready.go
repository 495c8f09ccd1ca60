package agent

import (
	"fmt"
	"strings"
	"time"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/cluster"
)

// Ready says whether this agent should get work, and check by check why.
func (a *Agent) Ready() (bool, []api.Check) {
	checks := a.checkReady(a.cluster.View(), a.cluster.Stats())
	return ready(checks), checks
}

func ready(checks []api.Check) bool {
	for _, c := range checks {
		if c.Status == "fail" {
			return false
		}
	}
	return true
}

func (a *Agent) checkReady(v *cluster.View, cs cluster.Stats) []api.Check {
	return []api.Check{a.checkGossip(cs), checkJoined(v, cs), a.checkRedis()}
}

func (a *Agent) checkGossip(cs cluster.Stats) api.Check {
	c := api.Check{Name: "gossip", Status: "warn"}
	switch phase := a.phase.Load().(string); {
	case phase != "alive":
		c.Status, c.Text = "fail", "this peer is "+phase
	case cs.CutOff:
		c.Text = "no partner answers: this peer is cut off, or the last one"
	case cs.UDPBlocked:
		c.Text = "degraded: peers answer by TCP but none by UDP"
	default:
		c.Status, c.Text = "pass", "gossip is up at "+a.GossipAddr()
	}
	return c
}

// checkJoined passes once another peer has answered, and for a peer that is alone
// by design: it was told of no seeds and remembers nobody.
func checkJoined(v *cluster.View, cs cluster.Stats) api.Check {
	c := api.Check{Name: "joined", Status: "fail"}
	answered := cs.Joined
	var failures []string
	for _, s := range cs.Seeds {
		switch {
		case s.Err != nil:
			failures = append(failures, s.Addr+": "+seedTrouble(s.Err))
		case !s.LastOK.IsZero():
			answered = true
		}
	}
	missing := unseen(cs.Unseen, time.Time{})
	switch n := len(cs.Seeds); {
	case answered:
		c.Status, c.Text = "pass", fmt.Sprintf("%d peers known", len(v.Members))
	case n == 0 && len(missing) == 0:
		c.Status, c.Text = "pass", "alone, and told of no seeds"
	case n == 0:
		c.Text = fmt.Sprintf("none of %d remembered peers has answered since this start: start one of them, or drop those that will not come back with `peer forget NAME`", len(missing))
	case len(failures) == 0:
		c.Text = fmt.Sprintf("none of %d seeds has answered yet", n)
	case n == 1:
		c.Text = "the only seed does not answer: " + oneLine(cs.Seeds[0].Err)
	default:
		c.Text = fmt.Sprintf("none of %d seeds answers: %s", n, several(failures, "; ", "; and "))
	}
	return c
}

// seedTrouble is the first clause of why a seed does not answer, without the
// address and the fix: those stand in the list of seeds.
func seedTrouble(err error) string {
	text := oneLine(err)
	for _, verb := range []string{"join ", "resolve seed "} {
		if rest, ok := strings.CutPrefix(text, verb); ok {
			if _, why, ok := strings.Cut(rest, ": "); ok {
				text = why
			}
		}
	}
	for _, end := range []string{"; ", ": "} {
		text, _, _ = strings.Cut(text, end)
	}
	return text
}

func (a *Agent) checkRedis() api.Check {
	if a.locks == nil {
		return api.Check{Name: "redis", Status: "pass", Text: "no Redis is configured, so there are no locks"}
	}
	st := a.locks.Stats()
	if st.Up {
		return api.Check{Name: "redis", Status: "pass", Text: "Redis answers at " + st.Addr}
	}
	c := api.Check{Name: "redis", Status: "warn", Text: "locks do not work: Redis " + st.Addr + " has not answered yet"}
	if st.LastError != nil {
		c.Text = "locks do not work: " + oneLine(st.LastError)
	}
	if a.cfg.Ready.RequireRedis {
		c.Status = "fail"
	}
	return c
}
