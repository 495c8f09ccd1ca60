package keys

import (
	"bytes"
	"slices"
	"time"
)

// keySet is the gossip keys in force at one moment, and how strict they are:
// immutable, so that every packet reads it without a lock.
type keySet struct {
	keys  []heldKey // the first encrypts, all decrypt
	epoch uint64    // of the last change that came over gossip; an older one is refused
	stage stage
}

// heldKey is one key of a set.
type heldKey struct {
	*Key
	// until is when an old key goes. A member that still uses it until then is let
	// in and handed the new one. Zero: it stays.
	until time.Time
}

// Old says whether the key is being replaced.
func (k heldKey) Old() bool { return !k.until.IsZero() }

// stage is how far a cluster that began in plain text is on its way to
// encryption. Each step waits until everybody has made the one before.
type stage byte

const (
	// stageStrict: with keys everything is encrypted, without any nothing is.
	stageStrict stage = iota
	// stageAccept: takes both, sends plain text.
	stageAccept
	// stageSend: takes both, sends encrypted.
	stageSend
)

// sends returns the key to encrypt with, nil for plain text.
func (s *keySet) sends() *Key {
	if len(s.keys) == 0 || s.stage == stageAccept {
		return nil
	}
	return s.keys[0].Key
}

// takesPlain says whether plain text is taken in.
func (s *keySet) takesPlain() bool { return len(s.keys) == 0 || s.stage != stageStrict }

// open decrypts sealed, which was authenticated together with ad, and returns
// the message behind a copy of head, and the key.
func (s *keySet) open(head, sealed, ad []byte) (message []byte, by *heldKey, err error) {
	// Not in place: a wrong key would overwrite what the next one needs.
	room := append(make([]byte, 0, len(head)+len(sealed)), head...)
	for i := range s.keys {
		if message, err := s.keys[i].open(room, sealed, ad); err == nil {
			return message, &s.keys[i], nil
		}
	}
	return nil, nil, errSealed
}

// find returns where the key of this fingerprint is, or -1.
func (s *keySet) find(fingerprint string) int {
	return slices.IndexFunc(s.keys, func(k heldKey) bool { return k.fingerprint == fingerprint })
}

// fingerprints returns those of all keys, in order.
func (s *keySet) fingerprints() []string {
	out := make([]string, len(s.keys))
	for i, k := range s.keys {
		out[i] = k.fingerprint
	}
	return out
}

// signers returns the keys to sign and to verify with, the one to sign with
// first; an empty one stands for no key.
func (s *keySet) signers() [][]byte {
	var raw [][]byte
	for _, k := range s.keys {
		raw = append(raw, k.raw)
	}
	switch {
	case len(raw) == 0:
		return [][]byte{nil}
	case s.stage == stageAccept:
		return append([][]byte{nil}, raw...)
	case s.stage == stageSend:
		return append(raw, nil)
	}
	return raw
}

// with returns s with key installed, last, if it is not there yet. An old key
// that is installed anew is no longer old.
func (s *keySet) with(k *Key) *keySet {
	n := s.clone()
	if i := n.find(k.fingerprint); i >= 0 {
		n.keys[i].until = time.Time{}
		return n
	}
	n.keys = append(n.keys, heldKey{Key: k})
	return n
}

// using returns s with key first. The one that was first, or with all every
// other, becomes old and goes at until.
func (s *keySet) using(k *Key, until time.Time, all bool) *keySet {
	n := s.with(k)
	first := n.find(k.fingerprint)
	for i := range n.keys {
		if i != first && !n.keys[i].Old() && (all || i == 0) {
			n.keys[i].until = until
		}
	}
	key := n.keys[first]
	n.keys = slices.Insert(slices.Delete(n.keys, first, first+1), 0, key)
	return n
}

// without returns s without the key of this fingerprint; the first one stays.
func (s *keySet) without(fingerprint string) *keySet {
	n := s.clone()
	if i := n.find(fingerprint); i > 0 {
		n.keys = slices.Delete(n.keys, i, i+1)
	}
	return n
}

// at returns s without the keys whose time is over at now.
func (s *keySet) at(now time.Time) *keySet {
	over := func(k heldKey) bool { return k.Old() && now.After(k.until) }
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
		return bytes.Equal(a.raw, b.raw) && a.until.Equal(b.until)
	})
}
