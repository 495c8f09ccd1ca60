package cluster

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
)

// Encryption is the transport's, in the format that memberlist itself speaks:
// a version byte, a nonce of 12 bytes, and what AES-GCM makes of the message,
// authenticated together with the cluster's label. memberlist sees plain text
// on both sides of it. It could encrypt too, but its switches can not be thrown
// while it runs, it answers who comes with an old key in the new one, and it
// can not tell who did.

const (
	sealVersion  = 1
	nonceSize    = 12
	sealOverhead = 1 + nonceSize + 16
)

// The words are memberlist's: the log tells by them what a stranger did wrong.
var (
	errSealed = errors.New("no installed keys could decrypt the message")
	errPlain  = errors.New("encryption is configured but remote state is not encrypted")
	errNoKey  = errors.New("remote state is encrypted and encryption is not configured")
)

// sealer is one key, ready for use. Its methods may be called from any
// goroutine.
type sealer struct {
	key   []byte
	print string // fingerprint
	aead  cipher.AEAD
}

func newSealer(key []byte) (*sealer, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("gossip key of %d bytes, want 32 (or 16, 24); make one with: peer keygen", len(key))
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &sealer{key: append([]byte(nil), key...), print: Fingerprint(key), aead: aead}, nil
}

// seal appends the sealed message to b.
func (s *sealer) seal(b, message, with []byte) []byte {
	b = append(b, sealVersion)
	var nonce [nonceSize]byte
	_, _ = rand.Read(nonce[:]) // never fails
	b = append(b, nonce[:]...)
	return s.aead.Seal(b, nonce[:], message, with)
}

// open appends the message in sealed to b.
func (s *sealer) open(b, sealed, with []byte) ([]byte, error) {
	if len(sealed) < sealOverhead || sealed[0] != sealVersion {
		return nil, errSealed
	}
	return s.aead.Open(b, sealed[1:1+nonceSize], sealed[1+nonceSize:], with)
}

// sealStream makes the message of a stream out of a plain one.
func (s *sealer) sealStream(message []byte, label string) []byte {
	b := make([]byte, 0, 5+sealOverhead+len(message))
	b = append(b, msgEncrypted)
	b = binary.BigEndian.AppendUint32(b, uint32(sealOverhead+len(message)))
	return s.seal(b, message, append(b[:5:5], label...))
}

// cutLabel parts a label header from the message behind it. Without one header
// is empty.
func cutLabel(b []byte) (header, message []byte, label string) {
	if len(b) < 2 || b[0] != msgLabel || len(b) < 2+int(b[1]) {
		return nil, b, ""
	}
	n := 2 + int(b[1])
	return b[:n:n], b[n:], string(b[2:n])
}
