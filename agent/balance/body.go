package balance

import (
	"errors"
	"io"
	"net/http"
	"sync"
)

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}

// A rewinder hands out the body of a request, once for each try.
type rewinder struct {
	req *http.Request
	out *loan // the last one; nil when there is no body
}

// next returns the body for the next try.
func (r *rewinder) next() (io.ReadCloser, error) {
	if r.req.Body == nil || r.req.Body == http.NoBody {
		return r.req.Body, nil
	}
	body := r.req.Body
	if r.out != nil && r.req.GetBody != nil {
		var err error
		if body, err = r.req.GetBody(); err != nil {
			return nil, err
		}
	}
	r.out = &loan{body: body}
	return r.out, nil
}

// again says whether there can be one more try, and takes back a body that can
// not be had anew and was not read from.
func (r *rewinder) again() bool { return r.out == nil || r.out.back(r.req.GetBody != nil) }

// failed says whether the body itself could not be read.
func (r *rewinder) failed() bool { return r.out != nil && r.out.broken() }

// done closes a body that nobody else will.
func (r *rewinder) done() {
	if r.out == nil {
		closeBody(r.req)
		return
	}
	r.out.keep()
}

// A loan is a request's body in the hands of one try. As long as nothing was
// read of it, it can be had back, and so it is not closed before that is ruled
// out.
type loan struct {
	body io.ReadCloser

	mu       sync.Mutex
	read     bool  // something may have been
	err      error // of the body itself
	closed   bool  // by the try
	returned bool
	final    bool // it will not be had back
}

var errReturned = errors.New("balance: the request goes to another peer")

// Read reads from the body.
func (l *loan) Read(b []byte) (int, error) {
	l.mu.Lock()
	if l.returned || l.closed {
		l.mu.Unlock()
		return 0, errReturned
	}
	l.read = true
	l.mu.Unlock()
	n, err := l.body.Read(b)
	if err != nil && err != io.EOF {
		l.mu.Lock()
		if !l.closed { // what is read of a closed body says nothing of it
			l.err = err
		}
		l.mu.Unlock()
	}
	return n, err
}

// Close closes the body, at once or when it will not be had back.
func (l *loan) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.returned || l.closed {
		return nil
	}
	l.closed = true
	if l.read || l.final {
		return l.body.Close()
	}
	return nil
}

// back has the body back if it can, or lets go of it when another is to be had.
func (l *loan) back(another bool) bool {
	if another {
		l.keep()
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.returned = !l.read
	return l.returned
}

// keep rules out that the body is had back.
func (l *loan) keep() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.final = true
	if !l.read && (l.closed || l.returned) {
		l.body.Close()
	}
}

func (l *loan) broken() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err != nil
}

// wrapBody calls end once, when resp's body has been read to its end or closed,
// or has failed: then with the error.
func wrapBody(resp *http.Response, end func(error)) io.ReadCloser {
	b := &watched{ReadCloser: resp.Body, end: end}
	if resp.Body == nil || resp.Body == http.NoBody {
		b.finish(nil)
		return http.NoBody
	}
	if w, ok := resp.Body.(io.Writer); ok && resp.StatusCode == http.StatusSwitchingProtocols {
		return duplex{b, w}
	}
	return b
}

// watched is a body whose end is told.
type watched struct {
	io.ReadCloser
	once sync.Once
	end  func(error)
}

func (b *watched) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	switch {
	case err == io.EOF:
		b.finish(nil)
	case err != nil:
		b.finish(err)
	}
	return n, err
}

func (b *watched) Close() error {
	err := b.ReadCloser.Close()
	b.finish(nil)
	return err
}

func (b *watched) finish(err error) { b.once.Do(func() { b.end(err) }) }

// duplex is the body of an answer that switches protocols.
type duplex struct {
	*watched
	io.Writer
}
