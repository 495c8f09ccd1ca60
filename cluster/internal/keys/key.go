package keys

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
)

// What a key makes of a message is what memberlist itself would make of it: a
// version byte, a nonce of 12 bytes, and the output of AES-GCM.

const (
	formatVersion = 1
	nonceSize     = 12

	// Overhead is by how many bytes encryption makes a message longer.
	Overhead = 1 + nonceSize + 16
)

// errSealed is returned when no key opens a message.
var errSealed = errors.New("no installed key decrypts the message")

// Key is one key, ready for use. Its methods may be called from any goroutine.
type Key struct {
	raw         []byte
	fingerprint string
	aead        cipher.AEAD
}

func newKey(raw []byte) (*Key, error) {
	block, err := aes.NewCipher(raw)
	if err != nil {
		return nil, fmt.Errorf("gossip key of %d bytes, want 32 (or 16, 24); make one with: peer keygen", len(raw))
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &Key{raw: append([]byte(nil), raw...), fingerprint: Fingerprint(raw), aead: aead}, nil
}

// Seal appends the encrypted message to dst, authenticated together with ad.
func (k *Key) Seal(dst, message, ad []byte) []byte {
	dst = append(dst, formatVersion)
	var nonce [nonceSize]byte
	_, _ = rand.Read(nonce[:]) // never fails
	dst = append(dst, nonce[:]...)
	return k.aead.Seal(dst, nonce[:], message, ad)
}

// open appends the message in sealed to dst.
func (k *Key) open(dst, sealed, ad []byte) ([]byte, error) {
	if len(sealed) < Overhead || sealed[0] != formatVersion {
		return nil, errSealed
	}
	return k.aead.Open(dst, sealed[1:1+nonceSize], sealed[1+nonceSize:], ad)
}

// Overhead returns the constant of that name.
func (k *Key) Overhead() int { return Overhead }

// Fingerprint returns the package's Fingerprint of k.
func (k *Key) Fingerprint() string { return k.fingerprint }

// Fingerprint returns 16 hexadecimal digits that tell key from other keys and
// do not reveal it.
func Fingerprint(key []byte) string {
	h := sha256.New()
	h.Write([]byte("peer gossip key\x00")) // no other use of SHA-256 on a key yields the same digits
	h.Write(key)
	return hex.EncodeToString(h.Sum(nil)[:8])
}
