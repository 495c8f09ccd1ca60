package keys

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/peerhq/peer/cluster/internal/text"
)

// Frames about keys, all signed with a key in force:
//
//	command   {id, instance of the member that commands, epoch, op, grace in seconds, key}
//	answer    {id, instance of the member that answers, failed, fingerprints, text}
//	progress  {instance, stage, fingerprint of the key that it encrypts with}
//
// Instances, ids and epochs are 8 bytes big endian, the grace is 4.

// The first bytes of the frames that Take takes.
const (
	FrameCommand  = 'K'
	FrameAnswer   = 'k'
	FrameProgress = 'S'
)

const (
	fingerprintSize = 16 // hexadecimal digits
	maxNote         = 200
)

var errWire = errors.New("malformed gossip")

// operation is what a command asks for.
type operation byte

const (
	opInstall operation = 'i'
	opUse     operation = 'u' // and install, if it is not; what was used before becomes old
	opRotate  operation = 'o' // the same, and all others become old
	opRemove  operation = 'r'
	opList    operation = 'l'
)

// command is a FrameCommand, before it is signed.
type command struct {
	id    uint64 // of the question; 0: no answer is wanted
	from  uint64 // instance
	epoch uint64
	op    operation
	grace uint32 // seconds that keys which become old stay
	key   []byte // or a fingerprint, for opRemove
}

// answer is a FrameAnswer, before it is signed.
type answer struct {
	id           uint64
	from         uint64 // instance
	failed       bool
	fingerprints []string
	text         string
}

// progress says how far a member is on the way to encryption. It is a
// FrameProgress, before it is signed.
type progress struct {
	from        uint64 // instance
	stage       stage
	fingerprint string
}

func (cmd command) encode() []byte {
	b := binary.BigEndian.AppendUint64([]byte{FrameCommand}, cmd.id)
	b = binary.BigEndian.AppendUint64(b, cmd.from)
	b = binary.BigEndian.AppendUint64(b, cmd.epoch)
	b = append(b, byte(cmd.op))
	b = binary.BigEndian.AppendUint32(b, cmd.grace)
	return append(b, cmd.key...)
}

func parseCommand(b []byte) (command, error) {
	const head = 8 + 8 + 8 + 1 + 4
	if len(b) < head {
		return command{}, fmt.Errorf("%w: key command", errWire)
	}
	cmd := command{
		id:    binary.BigEndian.Uint64(b),
		from:  binary.BigEndian.Uint64(b[8:]),
		epoch: binary.BigEndian.Uint64(b[16:]),
		op:    operation(b[24]),
		grace: binary.BigEndian.Uint32(b[25:]),
		key:   b[head:],
	}
	n := len(cmd.key)
	switch cmd.op {
	case opInstall, opUse, opRotate:
		if n == 16 || n == 24 || n == 32 {
			return cmd, nil
		}
	case opRemove:
		if n == fingerprintSize {
			return cmd, nil
		}
	case opList:
		if n == 0 {
			return cmd, nil
		}
	}
	return command{}, fmt.Errorf("%w: key command", errWire)
}

func (a answer) encode() []byte {
	b := binary.BigEndian.AppendUint64([]byte{FrameAnswer}, a.id)
	b = binary.BigEndian.AppendUint64(b, a.from)
	failed := byte(0)
	if a.failed {
		failed = 1
	}
	b = append(b, failed, byte(len(a.fingerprints)))
	for _, p := range a.fingerprints {
		b = append(b, p...)
	}
	return append(b, a.text[:min(len(a.text), maxNote)]...)
}

func parseAnswer(b []byte) (answer, error) {
	const head = 8 + 8 + 2
	if len(b) < head || b[16] > 1 || b[17] > maxKeys || len(b) < head+fingerprintSize*int(b[17]) || len(b) > head+fingerprintSize*int(b[17])+maxNote {
		return answer{}, fmt.Errorf("%w: answer about keys", errWire)
	}
	a := answer{id: binary.BigEndian.Uint64(b), from: binary.BigEndian.Uint64(b[8:]), failed: b[16] == 1}
	n, b := int(b[17]), b[head:]
	for range n {
		p := string(b[:fingerprintSize])
		if strings.Trim(p, "0123456789abcdef") != "" {
			return answer{}, fmt.Errorf("%w: answer about keys", errWire)
		}
		a.fingerprints = append(a.fingerprints, p)
		b = b[fingerprintSize:]
	}
	a.text = text.Safe(string(b))
	return a, nil
}

func (n progress) encode() []byte {
	b := binary.BigEndian.AppendUint64([]byte{FrameProgress}, n.from)
	return append(append(b, byte(n.stage)), n.fingerprint...)
}

func parseProgress(b []byte) (progress, error) {
	if len(b) != 8+1+fingerprintSize || stage(b[8]) > stageSend {
		return progress{}, fmt.Errorf("%w: progress of encryption", errWire)
	}
	return progress{from: binary.BigEndian.Uint64(b), stage: stage(b[8]), fingerprint: string(b[9:])}, nil
}
