package watch

import (
	"errors"
	"io"
	"net"
	"time"
)

const (
	// A stream can arrive before the announcement of the peer that dialled it: the
	// acceptor waits that long for Know.
	knowWait = time.Second
	knowPoll = 25 * time.Millisecond
)

// Accept takes over an accepted connection whose first byte, Magic, has been
// read. It shakes hands on the caller's goroutine and returns within 2.5 s, so
// that the caller can bound how many strangers it lets in at a time. A stream
// that is kept is then read by a goroutine of the Watcher.
func (w *Watcher) Accept(conn net.Conn) {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		conn.Close()
		return
	}
	w.wg.Add(1)
	w.conns[conn] = struct{}{}
	w.mu.Unlock()
	defer w.wg.Done()

	_ = conn.SetDeadline(time.Now().Add(helloTimeout))
	s, from, err := w.answer(conn)
	if err != nil {
		if errors.Is(err, ErrStranger) {
			w.strangers.Add(1)
		}
		w.log.Debug("stream not accepted", "addr", conn.RemoteAddr(), "err", err)
	}
	if s == nil {
		w.drop(conn)
		return
	}
	_ = conn.SetDeadline(time.Time{})
	w.admit(s, from)
}

// answer is the acceptor's half of the handshake. It returns no stream when
// whoever dialled only wants to know who is here.
func (w *Watcher) answer(conn net.Conn) (s *stream, from uint64, err error) {
	got, err := readMessage(conn, helloBody, Magic)
	if err != nil {
		return nil, 0, err
	}
	h, key, err := parseHello(got, w.secrets())
	if err != nil {
		return nil, 0, err
	}
	r := reply{version: common(h.versions, w.cfg.Versions), versions: w.cfg.Versions, id: w.cfg.Self, nonce: newNonce()}
	sent := r.encode(key, got)
	if _, err := conn.Write(sent); err != nil {
		return nil, 0, err
	}
	var confirm [macSize]byte
	_, err = io.ReadFull(conn, confirm[:])
	switch {
	case h.kind != kindWatch || h.want != w.cfg.Self:
		return nil, 0, nil // it has hung up, or had the time to
	case r.version == 0:
		return nil, 0, versionError(w.cfg.Versions, h.versions)
	case err != nil:
		return nil, 0, err
	case !key.signed(confirm[:], "confirm", got, sent):
		return nil, 0, ErrStranger
	}
	return newStream(conn, false, key.half(fromAcceptor, h.nonce, r.nonce), key.half(fromDialler, h.nonce, r.nonce)), h.from, nil
}

// admit keeps s once its peer is known, or says why not.
func (w *Watcher) admit(s *stream, from uint64) {
	known := w.cfg.Know(from)
	if !known {
		poll := time.NewTicker(knowPoll)
		defer poll.Stop()
		for end := time.Now().Add(knowWait); !known && time.Now().Before(end); known = w.cfg.Know(from) {
			select {
			case <-poll.C:
			case <-w.life.Done():
				w.drop(s.conn)
				return
			}
		}
	}
	w.keep(s, from, known)
}
