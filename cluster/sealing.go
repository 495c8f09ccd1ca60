package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A cluster that runs in plain text is switched to encryption while it runs: the
// key is installed at each peer by hand, for nothing secret goes over plain
// gossip. Whoever has it takes in both and sends plain text; when everybody has
// it, both are taken in and encrypted text is sent; when everybody sends that,
// plain text is refused. Each tells the others how far it is, signed with the
// key, so that nobody can hurry or fake a step.

const (
	stageDwell = 3 * time.Second // at least in each stage: newcomers are known by then
	stageHear  = 3 * keyTick / 2
	stageTalk  = time.Minute      // for so long the last step is told
	stageLong  = 30 * time.Second // without a step: say who is waited for
)

// adopt begins the switch to encryption at this peer. It waits a moment to hear
// who has the key already.
func (c *Cluster) adopt(ctx context.Context, k *sealer) (KeyReport, error) {
	c.keyring.mu.Lock()
	set := c.keys.load()
	var note string
	var err error
	switch {
	case len(set.keys) == 0:
		note = c.change(&keySet{keys: []heldKey{{sealer: k}}, stage: stageAccept})
		c.logger.Info("gossip is being switched to encryption", "key", k.print)
	case set.keys[0].print != k.print:
		err = fmt.Errorf("%w; it began with another key, of fingerprint %s", ErrSealing, set.keys[0].print)
	}
	c.keyring.mu.Unlock()
	r := KeyReport{Fingerprint: k.print}
	own := KeyOutcome{Name: c.cfg.Name, Addr: c.trans.advertise, Keys: c.keys.load().prints(), Note: note}
	r.Members = append(r.Members, own)
	if err != nil {
		return r, err
	}
	for end := time.Now().Add(stageHear); ; {
		r.Absent = c.unsealed()
		if len(r.Absent) == 0 || time.Now().After(end) || ctx.Err() != nil || !c.sleep(stageHear/20) {
			return r, nil
		}
	}
}

// unsealed returns the names of the live members that have not made the step
// that this peer has made.
func (c *Cluster) unsealed() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	set := c.keys.load()
	var out []string
	for _, r := range c.rows {
		if r == c.self || r.ghost || r.m.State != Alive && r.m.State != Suspect {
			continue
		}
		if !r.seal.made(set) {
			out = append(out, r.m.Name)
		}
	}
	slices.Sort(out)
	return out
}

// made says whether a member with this news is as far as set.
func (n sealNews) made(set *keySet) bool {
	if len(set.keys) == 0 || n.print != set.keys[0].print {
		return false
	}
	return set.stage == stageAccept || n.stage == stageSend || n.stage == stageStrict
}

// moveOn makes the next step if everybody has made the last one, and tells of
// this peer's. It runs on the key loop.
func (c *Cluster) moveOn(now time.Time) {
	c.keyring.mu.Lock()
	set, staged := c.keys.load(), c.keyring.staged
	c.keyring.mu.Unlock()
	if staged.IsZero() || set.stage == stageStrict && now.Sub(staged) > stageTalk {
		return
	}
	if set.stage != stageStrict && now.Sub(staged) > stageDwell && len(c.unsealed()) == 0 {
		next := set.clone()
		if next.stage = stageSend; set.stage == stageSend {
			next.stage = stageStrict
		}
		c.keyring.mu.Lock()
		if c.keys.load() == set {
			c.change(next)
			set = next
		}
		c.keyring.mu.Unlock()
		if set.stage == stageStrict {
			c.logger.Info("gossip is encrypted, plain text is refused from now on", "key", set.keys[0].print)
		}
	}
	c.tellSeal(set)
}

// tellSeal tells the others how far this peer is.
func (c *Cluster) tellSeal(set *keySet) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.left {
		return
	}
	k := set.keys[0]
	frame := c.signKeys(k.sealer, sealNews{c.self.m.Instance, set.stage, k.print}.encode())
	var to []Member
	for _, r := range c.rows {
		if r != c.self && len(to) < directNotices && (r.m.State == Alive || r.m.State == Suspect) {
			to = append(to, r.m)
		}
	}
	c.sendAll(to, frame)
	if len(c.rows) > directNotices {
		c.queueFrame("seal "+c.self.m.Instance.String(), frame)
	}
}

// takeSeal takes in how far a member is.
func (c *Cluster) takeSeal(b []byte) error {
	body, _, err := c.verifyKeys(b)
	if err != nil {
		return nil //nolint:nilerr // this peer does not have the key yet
	}
	n, err := parseSealNews(body)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.rows[n.from]
	if r == nil || r == c.self || r.seal == n || r.seal.rank() > n.rank() {
		return nil
	}
	r.seal = n
	if len(c.rows) > directNotices {
		c.queueFrame("seal "+n.from.String(), b)
	}
	return nil
}

// rank orders the steps.
func (n sealNews) rank() int {
	switch {
	case n.print == "":
		return 0
	case n.stage == stageAccept:
		return 1
	case n.stage == stageSend:
		return 2
	}
	return 3
}

// sealWarning says who is waited for.
func (c *Cluster) sealWarning(now time.Time) (Warning, bool) {
	set := c.keys.load()
	if set.stage == stageStrict {
		return Warning{}, false
	}
	c.keyring.mu.Lock()
	long := now.Sub(c.keyring.staged) > stageLong
	c.keyring.mu.Unlock()
	names := c.unsealed()
	if !long || len(names) == 0 {
		return Warning{Code: "gossip_sealing", Text: "gossip is being switched to encryption", Fix: "wait until this warning has gone"}, true
	}
	more := ""
	if n := len(names) - 10; n > 0 {
		names, more = names[:10], fmt.Sprintf(" and %d more", n)
	}
	return Warning{
		Code: "gossip_sealing", Text: "gossip is not encrypted yet: the key is missing at " + strings.Join(names, ", ") + more,
		Fix: "install the key there with: peer keyring install",
	}, true
}
