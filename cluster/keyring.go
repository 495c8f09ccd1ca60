package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Keys change while the cluster runs. A command goes to every live member over
// a stream of its own, encrypted and signed with a key that both hold, and each
// answers what became of it, so that the caller knows whom to look after. A
// rotation installs the new key everywhere, then encrypts with it, and lets the
// old one go after a grace period. Who was absent comes back with the old key
// in that time, is let in, and is given the new one by whoever it talks to.
//
// A command bears an epoch, the time at which it was given: an older one,
// recorded and replayed, is refused, and so is one signed with an old key,
// which may be old because it leaked.

// KeyInfo tells of one gossip key, never the key itself.
type KeyInfo struct {
	Fingerprint string
	Primary     bool      // it encrypts; the others only decrypt
	Until       time.Time // an old key goes then; zero: it stays
}

// KeyOutcome tells what one member made of a command.
type KeyOutcome struct {
	Name string
	Addr netip.AddrPort
	Keys []string // the fingerprints that it has now, its primary first
	Note string   // it did as told, but something needs a human
	Err  error    // nil when it did as told
}

// KeyReport tells what came of a command to the whole cluster.
type KeyReport struct {
	Fingerprint string       // of the key that it was about
	Members     []KeyOutcome // this peer and all that are alive or suspect, by name
	// Absent are the names of those that are known and were not there. They are
	// let in with the old key until Until.
	Absent []string
	Until  time.Time // zero when no key became old
}

// Err returns what went wrong at any member, nil if all did as told.
func (r KeyReport) Err() error {
	var errs []error
	for _, m := range r.Members {
		if m.Err != nil {
			errs = append(errs, fmt.Errorf("%s at %s: %w", m.Name, m.Addr, m.Err))
		}
	}
	return errors.Join(errs...)
}

var (
	// ErrPlainGossip: keys are sent over encrypted gossip only.
	ErrPlainGossip = errors.New("gossip is not encrypted, so no key can be sent over it: give every host the key file, and install it there with: peer keyring install")
	// ErrUnknownKey: no installed key has that fingerprint.
	ErrUnknownKey = errors.New("no installed key has this fingerprint")
	// ErrPrimaryKey: the key that encrypts can not be removed.
	ErrPrimaryKey = errors.New("this key encrypts: use another one first")
	// ErrSealing: gossip is just being switched to encryption.
	ErrSealing = errors.New("gossip is just being switched to encryption: wait until status says that it is encrypted")
)

const (
	keyAnswerIn = 5 * time.Second // of all members, when the caller sets no deadline
	keyResend   = 700 * time.Millisecond
	keySends    = 32 // at once
	keyGift     = 5 * time.Second
	keyTick     = time.Second
	maxKeyNote  = 200

	epochRandomBits = 10 // two commands at one moment have an order, too
)

// keyRefusal is a member's answer that it did not do as told.
type keyRefusal struct{ why string }

func (e *keyRefusal) Error() string { return e.why }

var errOldKey = fmt.Errorf("%w: keys: not signed with a key in force", errWire)

// keyOp is what a command asks for.
type keyOp byte

const (
	opInstall keyOp = 'i'
	opUse     keyOp = 'u' // and install, if it is not; what was used before becomes old
	opRotate  keyOp = 'o' // the same, and all others become old
	opRemove  keyOp = 'r'
	opList    keyOp = 'l'
)

// keyCommand is a frameKeys, before it is signed.
type keyCommand struct {
	id    uint64 // of the question; 0: no answer is wanted
	from  Instance
	epoch uint64
	op    keyOp
	grace uint32 // seconds that keys which become old stay
	key   []byte // or a fingerprint, for opRemove
}

// keyAnswer is a frameKeysDone, before it is signed.
type keyAnswer struct {
	id     uint64
	from   Instance
	failed bool
	prints []string
	text   string
}

// keyQuestion is a command that waits for answers. keyState.mu guards it.
type keyQuestion struct {
	answers map[Instance]keyAnswer
	news    chan struct{}
}

// keyState is what the keyring keeps beside the keys.
type keyState struct {
	mu     sync.Mutex // a change at a time; it also guards all below
	asked  map[uint64]*keyQuestion
	staged time.Time // when the stage began
	fault  error     // of the last write of the key file
}

// Keys returns the keys in force, the one that encrypts first.
func (c *Cluster) Keys() []KeyInfo {
	var out []KeyInfo
	for i, k := range c.keys.load().keys {
		out = append(out, KeyInfo{Fingerprint: k.print, Primary: i == 0, Until: k.until})
	}
	return out
}

// InstallKey lets every member decrypt with key. On a cluster without a key it
// is for this peer alone, must be done at each, and begins the switch to
// encryption: nobody is shut out, and it is complete when all have the key.
func (c *Cluster) InstallKey(ctx context.Context, key []byte) (KeyReport, error) {
	k, err := newSealer(key)
	if err != nil {
		return KeyReport{}, err
	}
	set := c.keys.load()
	if len(set.keys) == 0 || set.stage != stageStrict {
		return c.adopt(ctx, k)
	}
	if set.find(k.print) < 0 && len(set.keys) >= maxKeys {
		return KeyReport{}, fmt.Errorf("%d keys are installed, which is the limit: remove old ones", len(set.keys))
	}
	return c.command(ctx, opInstall, k, 0)
}

// UseKey makes every member encrypt with the installed key of this fingerprint.
// The key that was used before stays for Config.KeyGrace.
func (c *Cluster) UseKey(ctx context.Context, fingerprint string) (KeyReport, error) {
	set, err := c.sealedSet()
	if err != nil {
		return KeyReport{}, err
	}
	i := set.find(fingerprint)
	if i < 0 {
		return KeyReport{}, ErrUnknownKey
	}
	return c.command(ctx, opUse, set.keys[i].sealer, c.cfg.KeyGrace)
}

// RemoveKey makes every member forget the key of this fingerprint. Whoever has
// no other is shut out.
func (c *Cluster) RemoveKey(ctx context.Context, fingerprint string) (KeyReport, error) {
	set, err := c.sealedSet()
	if err != nil {
		return KeyReport{}, err
	}
	switch i := set.find(fingerprint); {
	case i < 0:
		return KeyReport{}, ErrUnknownKey
	case i == 0:
		return KeyReport{}, ErrPrimaryKey
	default:
		return c.command(ctx, opRemove, set.keys[i].sealer, 0)
	}
}

// Rotate makes every member encrypt with key, and decrypt with the one before
// for Config.KeyGrace, so that those who are absent can come back. A nil key
// is drawn. It may be repeated: members that did as told before do no more.
func (c *Cluster) Rotate(ctx context.Context, key []byte) (KeyReport, error) {
	if _, err := c.sealedSet(); err != nil {
		return KeyReport{}, err
	}
	if key == nil {
		var err error
		if key, err = drawKey(c.cfg.Rand); err != nil {
			return KeyReport{}, err
		}
	}
	k, err := newSealer(key)
	if err != nil {
		return KeyReport{}, err
	}
	// Everybody can decrypt with it before anybody encrypts with it. Who does not
	// answer is given it later; who refuses would be shut out.
	r, err := c.command(ctx, opInstall, k, 0)
	if err != nil {
		return r, err
	}
	for _, m := range r.Members {
		var refused *keyRefusal
		if errors.As(m.Err, &refused) {
			return r, fmt.Errorf("nothing is encrypted with the new key yet, %s did not take it: %w", m.Name, m.Err)
		}
	}
	return c.command(ctx, opRotate, k, c.cfg.KeyGrace)
}

// sealedSet returns the keys in force if commands may go over gossip.
func (c *Cluster) sealedSet() (*keySet, error) {
	set := c.keys.load()
	switch {
	case len(set.keys) == 0:
		return nil, ErrPlainGossip
	case set.stage != stageStrict:
		return nil, ErrSealing
	}
	return set, nil
}

// ListKeys asks every member which keys it has. Over plain gossip nobody is
// asked.
func (c *Cluster) ListKeys(ctx context.Context) (KeyReport, error) {
	set := c.keys.load()
	if len(set.keys) == 0 || set.stage != stageStrict {
		own := KeyOutcome{Name: c.cfg.Name, Addr: c.trans.advertise, Keys: set.prints()}
		return KeyReport{Members: []KeyOutcome{own}, Absent: c.unsealed()}, nil
	}
	return c.command(ctx, opList, set.keys[0].sealer, 0)
}

// command gives one command to this peer, and then to all others.
func (c *Cluster) command(ctx context.Context, op keyOp, k *sealer, grace time.Duration) (KeyReport, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, keyAnswerIn)
		defer cancel()
	}
	was, err := c.sealedSet()
	if err != nil {
		return KeyReport{}, err
	}
	epoch := max(uint64(c.cfg.Now().UnixMilli())<<epochRandomBits|c.random()>>(64-epochRandomBits), was.epoch+1)
	cmd := keyCommand{from: c.self.m.Instance, epoch: epoch, op: op, grace: uint32(grace / time.Second), key: k.key}
	switch op {
	case opRemove:
		cmd.key = []byte(k.print)
	case opList:
		cmd.key = nil
	}
	r := KeyReport{Fingerprint: k.print}
	own := KeyOutcome{Name: c.cfg.Name, Addr: c.trans.advertise}
	own.Note, own.Err = c.obey(cmd)
	if own.Err != nil {
		return r, own.Err
	}
	set := c.keys.load()
	own.Keys = set.prints()
	for _, k := range set.keys {
		if k.old() && (op == opUse || op == opRotate) {
			r.Until = k.until
		}
	}
	to, absent := c.audience()
	r.Absent = absent
	// In the key that was first: whoever is up to date has it, whatever was
	// lost so far.
	r.Members = append(c.ask(ctx, cmd, was.keys[0].sealer, to), own)
	slices.SortFunc(r.Members, func(a, b KeyOutcome) int { return cmp.Compare(a.Name, b.Name) })
	if op != opList {
		c.logger.Info("gossip keys changed", "key", k.print, "members", len(r.Members), "absent", len(absent))
	}
	return r, nil
}

// obey does what cmd says here. note tells what a human must look after.
func (c *Cluster) obey(cmd keyCommand) (note string, err error) {
	c.keyring.mu.Lock()
	defer c.keyring.mu.Unlock()
	set := c.keys.load().at(c.cfg.Now())
	if cmd.op == opList {
		return "", nil
	}
	if cmd.epoch < set.epoch {
		return "", errors.New("refused: a later change of keys has reached it before, try again")
	}
	next := set
	switch cmd.op {
	case opInstall, opUse, opRotate:
		k, err := newSealer(cmd.key)
		if err != nil {
			return "", err
		}
		if set.find(k.print) < 0 && len(set.keys) >= maxKeys {
			return "", fmt.Errorf("refused: it has %d keys, which is the limit: remove old ones", len(set.keys))
		}
		if cmd.op == opInstall {
			next = set.with(k)
		} else {
			next = set.using(k, c.cfg.Now().Add(time.Duration(cmd.grace)*time.Second), cmd.op == opRotate)
		}
	case opRemove:
		if set.find(string(cmd.key)) == 0 {
			return "", errors.New("refused: it encrypts with this key")
		}
		next = set.without(string(cmd.key))
	}
	next = next.clone()
	next.epoch = cmd.epoch
	return c.change(next), nil
}

// change puts a set in force and writes it down. The caller holds c.keyring.mu.
func (c *Cluster) change(next *keySet) (note string) {
	old := c.keys.load()
	if next.equal(old) {
		return ""
	}
	// In force first: what can not be written down still holds until a restart.
	c.keys.set.Store(next)
	if next.stage != old.stage {
		c.keyring.staged = time.Now()
	}
	c.keyring.fault = c.saveKeys(next)
	switch {
	case c.keyring.fault != nil:
		c.logger.Warn("gossip keys changed, but the key file did not", "err", c.keyring.fault)
		return "its key file was not rewritten: " + c.keyring.fault.Error()
	case c.cfg.KeyFile == "":
		return "it was started without a key file: the change is lost when it restarts"
	}
	return ""
}

// keyLoop lets old keys go and moves the switch to encryption on.
func (c *Cluster) keyLoop() {
	t := time.NewTicker(keyTick)
	defer t.Stop()
	for {
		select {
		case <-c.closing:
			return
		case <-t.C:
		}
		c.keyring.mu.Lock()
		set := c.keys.load()
		if next := set.at(c.cfg.Now()); next != set {
			c.logger.Info("an old gossip key has gone", "key", set.keys[len(set.keys)-1].print)
			c.change(next)
		}
		c.keyring.mu.Unlock()
		c.moveOn(time.Now())
	}
}
