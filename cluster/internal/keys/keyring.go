package keys

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"io"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	tick = time.Second

	keyFileNote = "it was started without a key file: the change is lost when it restarts"
)

// Config is all that a Keyring needs. New reads it; nothing is set later.
type Config struct {
	// Label is the cluster's; signatures bear it.
	Label string
	// Keys are in force at the start. The first encrypts, all decrypt. Default:
	// none, plain text.
	Keys [][]byte
	// File is where Keys came from. It is written anew when they change. Default:
	// none, and a change is lost with a restart.
	File string
	// Grace is how long a key that was replaced still lets members in.
	Grace time.Duration
	// Members are the others. It is called with no lock held.
	Members Members

	FS     FS               // where File lives; needed only with File
	Now    func() time.Time // the wall clock, which dates commands and old keys; default: time.Now
	Rand   io.Reader        // draws keys; default: crypto/rand
	Logger hclog.Logger     // default: none
}

// Member is one start of a peer.
type Member struct {
	Name     string
	Instance uint64
	Addr     netip.AddrPort
}

// Members is what a Keyring asks about the cluster, and how it speaks to it.
// All methods may be called from any goroutine, from Start to Close.
type Members interface {
	// Self returns this peer.
	Self() Member
	// Live returns the other members that are there, or may be.
	Live() []Member
	// Absent returns the sorted names of those that are known and not there.
	Absent() []string
	// Instance returns the other member with this instance, whatever its state.
	Instance(instance uint64) (Member, bool)
	// At returns the newest other member at addr, whatever its state.
	At(addr netip.AddrPort) (Member, bool)
	// Tell sends frame to each of to, in a datagram of its own that may be lost.
	Tell(to []Member, frame []byte)
	// Broadcast lets gossip carry frame to everybody, in place of an earlier one
	// of the same owner.
	Broadcast(owner string, frame []byte)
	// Send sends frame to one member over a stream of its own, encrypted with key,
	// and returns what went wrong in words for an operator.
	Send(ctx context.Context, to Member, frame []byte, key *Key) error
}

// FS is where the key file lives. WriteFile replaces it, whole, with mode 0600.
type FS interface {
	ReadFile(name string) ([]byte, error)
	WriteFile(name string, data []byte) error
}

// Keyring is the keys of one peer, made by New. All methods may be called from
// any goroutine.
//
// Its goroutines: one that lets old keys go and moves a switch to encryption
// on, and one for each command that is obeyed and each key that is handed over.
// Close ends and awaits them.
type Keyring struct {
	cfg     Config
	set     atomic.Pointer[keySet]
	leaving chan struct{}
	changed chan struct{}   // another set is in force
	life    context.Context // ends with Close
	end     context.CancelFunc
	wg      sync.WaitGroup

	// changing is held during a change of keys and the write of the key file, by
	// one at a time, and never together with mu.
	changing sync.Mutex

	mu       sync.Mutex
	asked    map[uint64]*question
	staged   time.Time // when the stage of the switch to encryption began
	fault    error     // of the last write of the key file
	reached  map[uint64]progress
	handoffs map[source]time.Time
	left     bool
	closed   bool
}

// New returns a Keyring that encrypts and decrypts, and runs nothing yet.
func New(cfg Config) (*Keyring, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	set, err := firstKeys(cfg)
	if err != nil {
		return nil, err
	}
	r := &Keyring{
		cfg:      cfg,
		leaving:  make(chan struct{}),
		changed:  make(chan struct{}, 1),
		asked:    map[uint64]*question{},
		reached:  map[uint64]progress{},
		handoffs: map[source]time.Time{},
	}
	r.set.Store(set)
	r.life, r.end = context.WithCancel(context.Background())
	return r, nil
}

// Start begins to call Members. It is called once.
func (r *Keyring) Start() { r.spawn(r.loop) }

// Leave ends what this peer does unasked; commands are still obeyed. It may be
// called more than once.
func (r *Keyring) Leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.left {
		r.left = true
		close(r.leaving)
	}
}

// Close ends everything but Seal and Open, and waits for the goroutines. It
// may be called more than once.
func (r *Keyring) Close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.end()
	r.wg.Wait()
}

// Info tells of one key, never the key itself.
type Info struct {
	Fingerprint string
	Primary     bool      // it encrypts; the others only decrypt
	Until       time.Time // an old key goes then; zero: it stays
}

// Keys returns the keys in force, the one that encrypts first.
func (r *Keyring) Keys() []Info {
	var out []Info
	for i, k := range r.set.Load().keys {
		out = append(out, Info{Fingerprint: k.fingerprint, Primary: i == 0, Until: k.until})
	}
	return out
}

// Status is how the keys are.
type Status struct {
	Encrypted bool   // nothing in plain text is sent or taken in
	Primary   string // fingerprint of the first key, "" without one
	Switching bool   // gossip is being switched to encryption
	// Stalled are the members that Switching waits for, by name, once it has
	// waited for longer than it should.
	Stalled []string
	FileErr error // of the last write of the key file
}

// Status returns how the keys are now.
func (r *Keyring) Status() Status {
	set := r.set.Load()
	s := Status{Primary: r.Primary(), Encrypted: len(set.keys) > 0 && set.stage == stageStrict, Switching: set.stage != stageStrict}
	r.mu.Lock()
	s.FileErr = r.fault
	long := time.Since(r.staged) > stageLong
	r.mu.Unlock()
	if s.Switching && long {
		s.Stalled = r.behind()
	}
	return s
}

// Primary returns the fingerprint of the first key, "" without any.
func (r *Keyring) Primary() string {
	if set := r.set.Load(); len(set.keys) > 0 {
		return set.keys[0].fingerprint
	}
	return ""
}

// Cipher is a key as package port uses it.
type Cipher = interface {
	Seal(dst, message, ad []byte) []byte
	Overhead() int
	Fingerprint() string
	Old() bool
}

// Sends returns the key to encrypt with, nil for plain text.
func (r *Keyring) Sends() Cipher {
	set := r.set.Load()
	if set.sends() == nil {
		return nil
	}
	return &set.keys[0] // not a copy: this runs for every packet
}

// TakesPlain says whether plain text is taken in.
func (r *Keyring) TakesPlain() bool { return r.set.Load().takesPlain() }

// Open decrypts sealed, which was authenticated together with ad, and returns
// the message behind a copy of head, and the key.
func (r *Keyring) Open(head, sealed, ad []byte) (message []byte, by Cipher, err error) {
	message, k, err := r.set.Load().open(head, sealed, ad)
	if err != nil {
		return nil, nil, err
	}
	return message, k, nil
}

// Take takes in one frame, which begins with one of the Frame bytes. It does
// not block, and keeps b. Its error says why the frame was dropped.
func (r *Keyring) Take(b []byte) error {
	if len(b) == 0 {
		return errWire
	}
	switch b[0] {
	case FrameCommand:
		return r.takeCommand(b)
	case FrameAnswer:
		return r.takeAnswer(b)
	case FrameProgress:
		return r.takeProgress(b)
	}
	return errWire
}

// loop lets old keys go and moves the switch to encryption on. While there is
// neither to do it sleeps: an idle process pays for each time that it wakes.
func (r *Keyring) loop() {
	t := time.NewTimer(tick)
	defer t.Stop()
	for {
		select {
		case <-r.life.Done():
			return
		case <-r.changed:
		case <-t.C:
		}
		r.expire()
		r.moveOn(time.Now())
		if r.settled(time.Now()) {
			t.Stop()
		} else {
			t.Reset(tick)
		}
	}
}

// settled says whether no key is to go and no switch is under way.
func (r *Keyring) settled(now time.Time) bool {
	set := r.set.Load()
	r.mu.Lock()
	defer r.mu.Unlock()
	return !slices.ContainsFunc(set.keys, func(k heldKey) bool { return k.Old() }) &&
		(r.staged.IsZero() || set.stage == stageStrict && now.Sub(r.staged) > stageTalk)
}

// expire lets the keys go whose time is over.
func (r *Keyring) expire() {
	r.changing.Lock()
	defer r.changing.Unlock()
	set := r.set.Load()
	if next := set.at(r.cfg.Now()); next != set {
		r.change(next)
		r.cfg.Logger.Info("an old gossip key has gone", "key", set.keys[len(set.keys)-1].fingerprint)
	}
}

// change puts a set in force and writes it down; note tells what a human must
// look after. changing is held.
func (r *Keyring) change(next *keySet) (note string) {
	old := r.set.Load()
	if next.equal(old) {
		return ""
	}
	// In force first: what cannot be written down still holds until a restart.
	r.set.Store(next)
	fault := r.save(next)
	r.mu.Lock()
	if next.stage != old.stage {
		r.staged = time.Now()
	}
	r.fault = fault
	r.mu.Unlock()
	select {
	case r.changed <- struct{}{}:
	default:
	}
	switch {
	case fault != nil:
		r.cfg.Logger.Warn("gossip keys changed, but the key file did not", "err", fault)
		return "its key file was not rewritten: " + fault.Error()
	case r.cfg.File == "":
		return keyFileNote
	}
	return ""
}

// spawn runs f on a goroutine that Close waits for, unless it is too late.
func (r *Keyring) spawn(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.wg.Go(f)
	}
}

// ending says whether this peer leaves or closes.
func (r *Keyring) ending() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.left || r.closed
}

// sleep waits for d; it reports false when the peer leaves or closes first.
func (r *Keyring) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.life.Done():
	case <-r.leaving:
	}
	return false
}

func (r *Keyring) random() uint64 {
	var b [8]byte
	_, _ = io.ReadFull(r.cfg.Rand, b[:])
	return binary.BigEndian.Uint64(b[:])
}
