package cluster

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// Frames about keys, all signed with a key in force:
//
//	keys       {id, instance of who commands, epoch, op, grace in seconds, key}
//	keys done  {id, instance of who answers, failed, fingerprints, text}
//	seal       {instance, stage, fingerprint of the key that it encrypts with}

const (
	frameKeys     = 'K'
	frameKeysDone = 'k'
	frameSeal     = 'S'

	printSize = 16 // hexadecimal digits of a fingerprint
)

func (cmd keyCommand) encode() []byte {
	b := binary.BigEndian.AppendUint64([]byte{frameKeys}, cmd.id)
	b = binary.BigEndian.AppendUint64(b, uint64(cmd.from))
	b = binary.BigEndian.AppendUint64(b, cmd.epoch)
	b = append(b, byte(cmd.op))
	b = binary.BigEndian.AppendUint32(b, cmd.grace)
	return append(b, cmd.key...)
}

func parseKeyCommand(b []byte) (keyCommand, error) {
	const head = 8 + 8 + 8 + 1 + 4
	if len(b) < head {
		return keyCommand{}, fmt.Errorf("%w: key command", errWire)
	}
	cmd := keyCommand{
		id:    binary.BigEndian.Uint64(b),
		from:  Instance(binary.BigEndian.Uint64(b[8:])),
		epoch: binary.BigEndian.Uint64(b[16:]),
		op:    keyOp(b[24]),
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
		if n == printSize {
			return cmd, nil
		}
	case opList:
		if n == 0 {
			return cmd, nil
		}
	}
	return keyCommand{}, fmt.Errorf("%w: key command", errWire)
}

func (a keyAnswer) encode() []byte {
	b := binary.BigEndian.AppendUint64([]byte{frameKeysDone}, a.id)
	b = binary.BigEndian.AppendUint64(b, uint64(a.from))
	failed := byte(0)
	if a.failed {
		failed = 1
	}
	b = append(b, failed, byte(len(a.prints)))
	for _, p := range a.prints {
		b = append(b, p...)
	}
	return append(b, a.text[:min(len(a.text), maxKeyNote)]...)
}

func parseKeyAnswer(b []byte) (keyAnswer, error) {
	const head = 8 + 8 + 2
	if len(b) < head || b[16] > 1 || b[17] > maxKeys || len(b) < head+printSize*int(b[17]) || len(b) > head+printSize*int(b[17])+maxKeyNote {
		return keyAnswer{}, fmt.Errorf("%w: answer about keys", errWire)
	}
	a := keyAnswer{id: binary.BigEndian.Uint64(b), from: Instance(binary.BigEndian.Uint64(b[8:])), failed: b[16] == 1}
	n, b := int(b[17]), b[head:]
	for range n {
		p := string(b[:printSize])
		if strings.Trim(p, "0123456789abcdef") != "" {
			return keyAnswer{}, fmt.Errorf("%w: answer about keys", errWire)
		}
		a.prints = append(a.prints, p)
		b = b[printSize:]
	}
	a.text = printable(string(b))
	return a, nil
}

// sealNews says how far a member is on the way to encryption.
type sealNews struct {
	from  Instance
	stage sealStage
	print string
}

func (n sealNews) encode() []byte {
	b := binary.BigEndian.AppendUint64([]byte{frameSeal}, uint64(n.from))
	return append(append(b, byte(n.stage)), n.print...)
}

func parseSealNews(b []byte) (sealNews, error) {
	if len(b) != 8+1+printSize || sealStage(b[8]) > stageSend {
		return sealNews{}, fmt.Errorf("%w: seal", errWire)
	}
	return sealNews{from: Instance(binary.BigEndian.Uint64(b)), stage: sealStage(b[8]), print: string(b[9:])}, nil
}
