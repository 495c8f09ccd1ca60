package keys

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
)

// MACSize is the length of a signature in bytes.
const MACSize = 16

// Signer is a key as it signs.
type Signer struct {
	raw   []byte // empty without a key
	label string
}

// Sign returns a MAC of parts under the key and the cluster's label. what names
// the purpose, so that a signature for one is none for another.
func (s Signer) Sign(what string, parts ...[]byte) []byte {
	h := hmac.New(sha256.New, append([]byte("peer watch "), s.raw...))
	fmt.Fprintf(h, "%s\x00%d\x00%s\x00", what, len(s.label), s.label)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)[:MACSize]
}

// Sign signs parts with the key in force. Without one anybody can make the
// signature; it tells clusters apart and proves nothing.
func (r *Keyring) Sign(what string, parts ...[]byte) []byte {
	return Signer{r.set.Load().signers()[0], r.cfg.Label}.Sign(what, parts...)
}

// Verify says whether mac is a signature of parts by a key that is accepted,
// and returns that key, to answer with.
func (r *Keyring) Verify(mac []byte, what string, parts ...[]byte) (by Signer, ok bool) {
	for _, raw := range r.set.Load().signers() {
		by := Signer{raw, r.cfg.Label}
		if hmac.Equal(mac, by.Sign(what, parts...)) {
			return by, true
		}
	}
	return Signer{}, false
}

var errOldKey = fmt.Errorf("%w: keys: not signed with a key in force", errWire)

// signFrame appends a MAC to a frame about keys.
func (r *Keyring) signFrame(by *Key, frame []byte) []byte {
	return append(frame, Signer{by.raw, r.cfg.Label}.Sign("keys", frame)...)
}

// verifyFrame takes the MAC and the first byte off a frame about keys, and
// returns the key that signed it.
func (r *Keyring) verifyFrame(b []byte) (body []byte, by heldKey, err error) {
	if len(b) < 1+MACSize {
		return nil, heldKey{}, fmt.Errorf("%w: keys", errWire)
	}
	frame, mac := b[:len(b)-MACSize], b[len(b)-MACSize:]
	for _, k := range r.set.Load().keys {
		if hmac.Equal(mac, Signer{k.raw, r.cfg.Label}.Sign("keys", frame)) {
			return frame[1:], k, nil
		}
	}
	return nil, heldKey{}, errOldKey
}
