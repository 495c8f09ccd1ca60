package watch

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash"
)

const (
	macSize   = 16
	nonceSize = 16

	// A frame's MAC is shorter than a handshake's: a forger has one try at it, and
	// a wrong one ends the stream.
	frameMAC  = 8
	frameSize = 1 + frameMAC

	fromDialler  = "dialler"
	fromAcceptor = "acceptor"
)

// nonce makes a handshake unlike every other.
type nonce [nonceSize]byte

func newNonce() (n nonce) {
	_, _ = rand.Read(n[:]) // never fails
	return n
}

// secret is a key bound to this protocol and to the cluster's label.
type secret [sha256.Size]byte

func newSecret(key []byte, label string) secret {
	return secret(prf(key, "peer watch", []byte(label)))
}

// mac signs parts, one after the other, as a message of kind what.
func (k *secret) mac(what string, parts ...[]byte) []byte {
	return prf(k[:], what, parts...)[:macSize]
}

// signed reports whether mac is k's of parts.
func (k *secret) signed(mac []byte, what string, parts ...[]byte) bool {
	return hmac.Equal(mac, k.mac(what, parts...))
}

func prf(key []byte, what string, parts ...[]byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(what))
	h.Write([]byte{0})
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// half signs or checks the frames of one direction of one stream, in their
// order. Its buffers live with it, so that a frame allocates nothing. One
// goroutine at a time uses it.
type half struct {
	mac    hash.Hash
	number uint64
	msg    [8 + 1]byte
	sum    [sha256.Size]byte
}

func (k *secret) half(direction string, hello, reply nonce) half {
	return half{mac: hmac.New(sha256.New, prf(k[:], direction, hello[:], reply[:]))}
}

// append adds the next frame to b.
func (h *half) append(b []byte, typ byte) []byte {
	h.next(typ)
	return append(append(b, typ), h.sum[:frameMAC]...)
}

// open reports whether b, of frameSize bytes, is the next frame, and its type.
func (h *half) open(b []byte) (typ byte, ok bool) {
	h.next(b[0])
	return b[0], hmac.Equal(b[1:frameSize], h.sum[:frameMAC])
}

func (h *half) next(typ byte) {
	binary.BigEndian.PutUint64(h.msg[:], h.number)
	h.msg[8] = typ
	h.number++
	h.mac.Reset()
	h.mac.Write(h.msg[:])
	h.mac.Sum(h.sum[:0])
}
