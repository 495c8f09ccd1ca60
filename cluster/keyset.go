package cluster

import (
	"bytes"
	"slices"
	"sync/atomic"
	"time"
)

// keySet is the gossip keys in force at one moment, and how strict they are:
// immutable, so that every packet reads it without a lock.
type keySet struct {
	keys  []heldKey // the first encrypts, all decrypt
	epoch uint64    // of the last change that came over gossip; an older one is refused
	stage sealStage
}

// heldKey is one key of a set.
type heldKey struct {
	*sealer
	// until is when an old key goes; who still uses it until then is let in and
	// given the new one. Zero: it stays.
	until time.Time
}

func (k heldKey) old() bool { return !k.until.IsZero() }

// sealStage is how far a cluster that began in plain text is on its way to
// encryption. Each step waits until everybody has made the one before.
type sealStage byte

const (
	// stageStrict: with keys everything is encrypted, without any nothing is.
	stageStrict sealStage = iota
	// stageAccept: takes both, sends plain text.
	stageAccept
	// stageSend: takes both, sends encrypted.
	stageSend
)

// sends returns the key to encrypt with, nil for plain text.
func (s *keySet) sends() *sealer {
	if len(s.keys) == 0 || s.stage == stageAccept {
		return nil
	}
	return s.keys[0].sealer
}

// takesPlain says whether plain text is taken in.
func (s *keySet) takesPlain() bool { return len(s.keys) == 0 || s.stage != stageStrict }

// open decrypts sealed, with which with was authenticated, and returns the
// message behind head, and the key.
func (s *keySet) open(head, sealed, with []byte) (message []byte, by heldKey, err error) {
	// Not in place: a wrong key would overwrite what the next one needs.
	room := append(make([]byte, 0, len(head)+len(sealed)), head...)
	for _, k := range s.keys {
		if message, err := k.open(room, sealed, with); err == nil {
			return message, k, nil
		}
	}
	return nil, heldKey{}, errSealed
}

// find returns where the key of this fingerprint is, or -1.
func (s *keySet) find(print string) int {
	return slices.IndexFunc(s.keys, func(k heldKey) bool { return k.print == print })
}

// prints returns the fingerprints.
func (s *keySet) prints() []string {
	out := make([]string, len(s.keys))
	for i, k := range s.keys {
		out[i] = k.print
	}
	return out
}

// raw returns the keys themselves.
func (s *keySet) raw() [][]byte {
	out := make([][]byte, len(s.keys))
	for i, k := range s.keys {
		out[i] = k.key
	}
	return out
}

// macs returns the keys for the handshake of a watch stream, the one to sign
// with first; nil stands for none.
func (s *keySet) macs() [][]byte {
	switch {
	case len(s.keys) == 0:
		return [][]byte{nil}
	case s.stage == stageAccept:
		return append([][]byte{nil}, s.raw()...)
	case s.stage == stageSend:
		return append(s.raw(), nil)
	}
	return s.raw()
}

// with returns s with key installed, last, if it is not there yet. An old key
// that is installed anew is no longer old.
func (s *keySet) with(k *sealer) *keySet {
	n := s.clone()
	if i := n.find(k.print); i >= 0 {
		n.keys[i].until = time.Time{}
		return n
	}
	n.keys = append(n.keys, heldKey{sealer: k})
	return n
}

// using returns s with key first. The one that was first, or with all every
// other, becomes old and goes at until.
func (s *keySet) using(k *sealer, until time.Time, all bool) *keySet {
	n := s.with(k)
	first := n.find(k.print)
	for i := range n.keys {
		if i != first && !n.keys[i].old() && (all || i == 0) {
			n.keys[i].until = until
		}
	}
	key := n.keys[first]
	n.keys = slices.Insert(slices.Delete(n.keys, first, first+1), 0, key)
	return n
}

// without returns s without the key of this fingerprint; the first one stays.
func (s *keySet) without(print string) *keySet {
	n := s.clone()
	if i := n.find(print); i > 0 {
		n.keys = slices.Delete(n.keys, i, i+1)
	}
	return n
}

// at returns s without the keys whose time is over at now.
func (s *keySet) at(now time.Time) *keySet {
	over := func(k heldKey) bool { return k.old() && now.After(k.until) }
	if len(s.keys) == 0 || !slices.ContainsFunc(s.keys[1:], over) {
		return s
	}
	n := s.clone()
	n.keys = append(n.keys[:1:1], slices.DeleteFunc(n.keys[1:], over)...)
	return n
}

func (s *keySet) clone() *keySet {
	n := *s
	n.keys = slices.Clone(s.keys)
	return &n
}

// equal says whether s and o hold the same keys in the same order, with the
// same ends.
func (s *keySet) equal(o *keySet) bool {
	return s.stage == o.stage && s.epoch == o.epoch && slices.EqualFunc(s.keys, o.keys, func(a, b heldKey) bool {
		return bytes.Equal(a.key, b.key) && a.until.Equal(b.until)
	})
}

// keyHolder is where the set in force is kept.
type keyHolder struct{ set atomic.Pointer[keySet] }

func (h *keyHolder) load() *keySet {
	if s := h.set.Load(); s != nil {
		return s
	}
	return &keySet{}
}
