package keys

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Outcome tells what one member made of a command.
type Outcome struct {
	Name string
	Addr netip.AddrPort
	Keys []string // the fingerprints that it has now, its primary first
	Note string   // it did as told, but something needs a human
	Err  error    // nil when it did as told
}

// Report tells what came of a command to the whole cluster.
type Report struct {
	Fingerprint string    // of the key that it was about
	Members     []Outcome // this peer and all live ones, by name
	// Absent are the names of those that are known and were not there. They are
	// let in with the old key until Until.
	Absent []string
	Until  time.Time // zero when no key became old
}

var (
	// ErrPlain: keys are sent over encrypted gossip only.
	ErrPlain = errors.New("gossip is not encrypted, so no key can be sent over it: give every host the key file, and install it there with: peer keyring install")
	// ErrUnknown: no installed key has that fingerprint.
	ErrUnknown = errors.New("no installed key has this fingerprint")
	// ErrPrimary: the key that encrypts cannot be removed.
	ErrPrimary = errors.New("this key encrypts: use another one first")
	// ErrSwitching: gossip is just being switched to encryption.
	ErrSwitching = errors.New("gossip is just being switched to encryption: wait until status says that it is encrypted")
)

const (
	answerIn = 5 * time.Second // of all members, when the caller sets no deadline

	epochRandomBits = 10 // two commands at one moment have an order, too
)

// refusal is a member's answer that it did not do as told.
type refusal struct{ why string }

func (e *refusal) Error() string { return e.why }

// Install lets every member decrypt with key. On a cluster without a key it is
// for this peer alone, must be done at each, and begins the switch to
// encryption: nobody is shut out, and it is complete when all have the key.
func (r *Keyring) Install(ctx context.Context, key []byte) (Report, error) {
	k, err := newKey(key)
	if err != nil {
		return Report{}, err
	}
	set := r.set.Load()
	if len(set.keys) == 0 || set.stage != stageStrict {
		return r.beginSwitch(ctx, k)
	}
	if set.find(k.fingerprint) < 0 && len(set.keys) >= maxKeys {
		return Report{}, fmt.Errorf("%d keys are installed, which is the limit: remove old ones", len(set.keys))
	}
	return r.command(ctx, opInstall, k, 0)
}

// Use makes every member encrypt with the installed key of this fingerprint.
// The key that was used before stays for Config.Grace. It fails with ErrPlain,
// ErrSwitching or ErrUnknown.
func (r *Keyring) Use(ctx context.Context, fingerprint string) (Report, error) {
	set, err := r.encryptedSet()
	if err != nil {
		return Report{}, err
	}
	i := set.find(fingerprint)
	if i < 0 {
		return Report{}, ErrUnknown
	}
	return r.command(ctx, opUse, set.keys[i].Key, r.cfg.Grace)
}

// Remove makes every member forget the key of this fingerprint. A member that
// has no other is shut out. It fails with ErrPlain, ErrSwitching, ErrUnknown
// or ErrPrimary.
func (r *Keyring) Remove(ctx context.Context, fingerprint string) (Report, error) {
	set, err := r.encryptedSet()
	if err != nil {
		return Report{}, err
	}
	switch i := set.find(fingerprint); {
	case i < 0:
		return Report{}, ErrUnknown
	case i == 0:
		return Report{}, ErrPrimary
	default:
		return r.command(ctx, opRemove, set.keys[i].Key, 0)
	}
}

// Rotate makes every member encrypt with key, and decrypt with the one before
// for Config.Grace, so that those that are absent can come back. A nil key is
// drawn. It may be repeated: members that did as told before do no more. It
// fails with ErrPlain or ErrSwitching.
func (r *Keyring) Rotate(ctx context.Context, key []byte) (Report, error) {
	if _, err := r.encryptedSet(); err != nil {
		return Report{}, err
	}
	if key == nil {
		var err error
		if key, err = drawKey(r.cfg.Rand); err != nil {
			return Report{}, err
		}
	}
	k, err := newKey(key)
	if err != nil {
		return Report{}, err
	}
	// Everybody can decrypt with it before anybody encrypts with it. A member that
	// does not answer is handed it later; one that refuses would be shut out.
	report, err := r.command(ctx, opInstall, k, 0)
	if err != nil {
		return report, err
	}
	for _, m := range report.Members {
		var refused *refusal
		if errors.As(m.Err, &refused) {
			return report, fmt.Errorf("nothing is encrypted with the new key yet, %s did not take it: %w", m.Name, m.Err)
		}
	}
	return r.command(ctx, opRotate, k, r.cfg.Grace)
}

// List asks every member which keys it has. Over plain gossip nobody is asked.
func (r *Keyring) List(ctx context.Context) (Report, error) {
	set := r.set.Load()
	if len(set.keys) == 0 || set.stage != stageStrict {
		return Report{Members: []Outcome{r.ownOutcome()}, Absent: r.behind()}, nil
	}
	return r.command(ctx, opList, set.keys[0].Key, 0)
}

// encryptedSet returns the keys in force if commands may go over gossip.
func (r *Keyring) encryptedSet() (*keySet, error) {
	set := r.set.Load()
	switch {
	case len(set.keys) == 0:
		return nil, ErrPlain
	case set.stage != stageStrict:
		return nil, ErrSwitching
	}
	return set, nil
}

func (r *Keyring) ownOutcome() Outcome {
	self := r.cfg.Members.Self()
	return Outcome{Name: self.Name, Addr: self.Addr, Keys: r.set.Load().fingerprints()}
}

// command gives one command to this peer, and then to all others.
func (r *Keyring) command(ctx context.Context, op operation, k *Key, grace time.Duration) (Report, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, answerIn)
		defer cancel()
	}
	was, err := r.encryptedSet()
	if err != nil {
		return Report{}, err
	}
	epoch := max(uint64(r.cfg.Now().UnixMilli())<<epochRandomBits|r.random()>>(64-epochRandomBits), was.epoch+1)
	cmd := command{from: r.cfg.Members.Self().Instance, epoch: epoch, op: op, grace: uint32(grace / time.Second), key: k.raw}
	switch op {
	case opRemove:
		cmd.key = []byte(k.fingerprint)
	case opList:
		cmd.key = nil
	}
	report := Report{Fingerprint: k.fingerprint}
	note, err := r.obey(cmd)
	if err != nil {
		return report, err
	}
	own := r.ownOutcome()
	own.Note = note
	for _, k := range r.set.Load().keys {
		if k.Old() && (op == opUse || op == opRotate) {
			report.Until = k.until
		}
	}
	targets := r.cfg.Members.Live()
	report.Absent = r.cfg.Members.Absent()
	// In the key that was first: a member that is up to date has it, whatever was
	// lost so far.
	report.Members = append(r.ask(ctx, cmd, was.keys[0].Key, targets), own)
	slices.SortFunc(report.Members, func(a, b Outcome) int { return cmp.Compare(a.Name, b.Name) })
	if op != opList {
		r.cfg.Logger.Info("gossip keys changed", "key", k.fingerprint, "members", len(report.Members), "absent", len(report.Absent))
	}
	return report, nil
}

// obey does what cmd says here. note tells what a human must look after.
func (r *Keyring) obey(cmd command) (note string, err error) {
	if cmd.op == opList {
		return "", nil
	}
	r.changing.Lock()
	defer r.changing.Unlock()
	set := r.set.Load().at(r.cfg.Now())
	if cmd.epoch < set.epoch {
		return "", errors.New("refused: a later change of keys has reached it before, try again")
	}
	next := set
	switch cmd.op {
	case opInstall, opUse, opRotate:
		k, err := newKey(cmd.key)
		if err != nil {
			return "", err
		}
		if set.find(k.fingerprint) < 0 && len(set.keys) >= maxKeys {
			return "", fmt.Errorf("refused: it has %d keys, which is the limit: remove old ones", len(set.keys))
		}
		if cmd.op == opInstall {
			next = set.with(k)
		} else {
			next = set.using(k, r.cfg.Now().Add(time.Duration(cmd.grace)*time.Second), cmd.op == opRotate)
		}
	case opRemove:
		if set.find(string(cmd.key)) == 0 {
			return "", errors.New("refused: it encrypts with this key")
		}
		next = set.without(string(cmd.key))
	}
	next = next.clone()
	next.epoch = cmd.epoch
	return r.change(next), nil
}
