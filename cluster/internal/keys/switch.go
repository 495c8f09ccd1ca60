package keys

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// A cluster that runs in plain text is switched to encryption while it runs: the
// key is installed at each peer by hand, for nothing secret goes over plain
// gossip. A peer that has it takes in both and sends plain text; when everybody
// has it, both are taken in and encrypted text is sent; when everybody sends
// that, plain text is refused. Each tells the others how far it is, signed with
// the key, so that nobody can hurry or fake a step.

const (
	stageDwell = 3 * time.Second // at least in each stage: newcomers are known by then
	stageHear  = 3 * tick / 2
	stageTalk  = time.Minute      // for so long the last step is told
	stageLong  = 30 * time.Second // without a step: say which members are waited for

	// direct is up to how many members each tells all others of its progress;
	// beyond, gossip carries it.
	direct = 64
	// maxReached bounds whose progress is remembered.
	maxReached = 10_000
)

// beginSwitch begins the switch to encryption at this peer. It waits a moment
// to hear which members have the key already.
func (r *Keyring) beginSwitch(ctx context.Context, k *Key) (Report, error) {
	report := Report{Fingerprint: k.fingerprint}
	note, err := r.installFirst(k)
	own := r.ownOutcome()
	own.Note = note
	report.Members = append(report.Members, own)
	if err != nil {
		return report, err
	}
	for end := time.Now().Add(stageHear); ; {
		report.Absent = r.behind()
		if len(report.Absent) == 0 || time.Now().After(end) || ctx.Err() != nil || !r.sleep(stageHear/20) {
			return report, nil
		}
	}
}

// installFirst makes k this peer's first key.
func (r *Keyring) installFirst(k *Key) (note string, err error) {
	r.changing.Lock()
	defer r.changing.Unlock()
	set := r.set.Load()
	switch {
	case len(set.keys) == 0:
		note = r.change(&keySet{keys: []heldKey{{Key: k}}, stage: stageAccept})
		r.cfg.Logger.Info("gossip is being switched to encryption", "key", k.fingerprint)
	case set.keys[0].fingerprint != k.fingerprint:
		err = fmt.Errorf("%w; it began with another key, of fingerprint %s", ErrSwitching, set.keys[0].fingerprint)
	}
	return note, err
}

// behind returns the names of the live members that have not made the step
// that this peer has made.
func (r *Keyring) behind() []string {
	live := r.cfg.Members.Live()
	set := r.set.Load()
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, m := range live {
		if !r.reached[m.Instance].made(set) {
			out = append(out, m.Name)
		}
	}
	slices.Sort(out)
	return out
}

// made says whether a member that told this is as far as set.
func (p progress) made(set *keySet) bool {
	if len(set.keys) == 0 || p.fingerprint != set.keys[0].fingerprint {
		return false
	}
	return set.stage == stageAccept || p.stage == stageSend || p.stage == stageStrict
}

// moveOn makes the next step if everybody has made the last one, and tells of
// this peer's. It runs on the loop.
func (r *Keyring) moveOn(now time.Time) {
	set := r.set.Load()
	r.mu.Lock()
	staged := r.staged
	r.mu.Unlock()
	if staged.IsZero() || set.stage == stageStrict && now.Sub(staged) > stageTalk {
		return
	}
	if set.stage != stageStrict && now.Sub(staged) > stageDwell && len(r.behind()) == 0 {
		set = r.step(set)
		if set.stage == stageStrict {
			r.cfg.Logger.Info("gossip is encrypted, plain text is refused from now on", "key", set.keys[0].fingerprint)
		}
	}
	r.tellProgress(set)
}

// step puts the stage after set's in force, unless the keys have changed, and
// returns what is in force.
func (r *Keyring) step(set *keySet) *keySet {
	next := set.clone()
	if next.stage = stageSend; set.stage == stageSend {
		next.stage = stageStrict
	}
	r.changing.Lock()
	defer r.changing.Unlock()
	if r.set.Load() != set {
		return set
	}
	r.change(next)
	return next
}

// tellProgress tells the others how far this peer is.
func (r *Keyring) tellProgress(set *keySet) {
	if r.ending() {
		return
	}
	k := set.keys[0]
	self := r.cfg.Members.Self().Instance
	frame := r.signFrame(k.Key, progress{self, set.stage, k.fingerprint}.encode())
	live := r.cfg.Members.Live()
	r.cfg.Members.Tell(live[:min(len(live), direct)], frame)
	if len(live) >= direct {
		r.cfg.Members.Broadcast(progressOwner(self), frame)
	}
}

// takeProgress takes in how far a member is.
func (r *Keyring) takeProgress(b []byte) error {
	body, _, err := r.verifyFrame(b)
	if err != nil {
		return nil //nolint:nilerr // this peer does not have the key yet
	}
	p, err := parseProgress(body)
	if err != nil {
		return err
	}
	r.mu.Lock()
	old := r.reached[p.from]
	r.mu.Unlock()
	if old == p || old.rank() > p.rank() {
		return nil
	}
	if _, ok := r.cfg.Members.Instance(p.from); !ok {
		return nil
	}
	r.mu.Lock()
	if len(r.reached) >= maxReached {
		clear(r.reached) // members tell it again within a second
	}
	r.reached[p.from] = p
	r.mu.Unlock()
	if len(r.cfg.Members.Live()) >= direct {
		r.cfg.Members.Broadcast(progressOwner(p.from), b)
	}
	return nil
}

func progressOwner(instance uint64) string { return fmt.Sprintf("encryption %016x", instance) }

// rank orders the steps.
func (p progress) rank() int {
	switch {
	case p.fingerprint == "":
		return 0
	case p.stage == stageAccept:
		return 1
	case p.stage == stageSend:
		return 2
	}
	return 3
}
