package keys

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
)

const macSize = 16

// sign returns a MAC of a frame about keys under a key and the cluster's label.
func sign(raw []byte, label string, frame []byte) []byte {
	h := hmac.New(sha256.New, append([]byte("peer watch "), raw...))
	fmt.Fprintf(h, "keys\x00%d\x00%s\x00", len(label), label)
	h.Write(frame)
	return h.Sum(nil)[:macSize]
}

// Secrets returns the keys that prove who holds them, the one to prove with first.
// An empty one stands for no key: it tells clusters apart by their label and proves
// nothing.
func (r *Keyring) Secrets() [][]byte { return r.set.Load().signers() }

var errOldKey = fmt.Errorf("%w: keys: not signed with a key in force", errWire)

// signFrame appends a MAC to a frame about keys.
func (r *Keyring) signFrame(by *Key, frame []byte) []byte {
	return append(frame, sign(by.raw, r.cfg.Label, frame)...)
}

// verifyFrame takes the MAC and the first byte off a frame about keys, and
// returns the key that signed it.
func (r *Keyring) verifyFrame(b []byte) (body []byte, by heldKey, err error) {
	if len(b) < 1+macSize {
		return nil, heldKey{}, fmt.Errorf("%w: keys", errWire)
	}
	frame, mac := b[:len(b)-macSize], b[len(b)-macSize:]
	for _, k := range r.set.Load().keys {
		if hmac.Equal(mac, sign(k.raw, r.cfg.Label, frame)) {
			return frame[1:], k, nil
		}
	}
	return nil, heldKey{}, errOldKey
}
