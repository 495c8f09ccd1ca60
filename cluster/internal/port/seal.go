package port

import (
	"encoding/binary"
	"errors"
)

// Encryption is the port's, in the format that memberlist itself speaks: a
// datagram is encrypted behind its label, a stream's message has a type byte
// and its length before it, and both are authenticated together with the
// label. memberlist could encrypt too, but its switches cannot be thrown while
// it runs, it answers a message in an old key in the new one, and it cannot
// tell who sent it.

// The words are memberlist's: the log tells by them what a stranger did wrong.
var (
	errSealed = errors.New("no installed keys could decrypt the message")
	errPlain  = errors.New("encryption is configured but remote state is not encrypted")
	errNoKey  = errors.New("remote state is encrypted and encryption is not configured")
)

// sealStream makes the message of a stream out of a plain one.
func sealStream(key Encrypter, message []byte, label string) []byte {
	size := key.Overhead() + len(message)
	b := make([]byte, 0, 5+size)
	b = append(b, msgEncrypted)
	b = binary.BigEndian.AppendUint32(b, uint32(size))
	return key.Seal(b, message, append(b[:5:5], label...))
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
