package httpapi

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/peerhq/peer/agent/api"
)

// contentPolicy lets the page load its own script and style, call its own
// agent, and nothing else; text can never become markup.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; " +
	"require-trusted-types-for 'script'; trusted-types 'none'"

// handler is what every request goes through: it is counted, gets the headers
// that every answer has, is let in or refused, and reaches its route.
func (s *Server) handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.requests.enter() {
			panic(http.ErrAbortHandler)
		}
		defer s.requests.leave()
		c := connOf(r.Context())
		c.begin() // connState ends it, when the answer is out

		rec := &recorder{ResponseWriter: w}
		nameSegments(r.URL)
		_, route := s.mux.Handler(r)
		began := time.Now()
		defer func() {
			s.metrics.request(route, rec.code(), time.Since(began))
			s.log.Debug("http request", "method", r.Method, "path", r.URL.Path, "code", rec.code(), "took", time.Since(began))
		}()
		defer s.recoverPanic(rec, r)

		s.setHeaders(w.Header())
		if p := s.admit(rec, r, c.limiter.local); p != nil {
			writeProblem(rec, r, p)
			return
		}
		if s.agent == nil {
			s.serveMux(rec, r)
			return
		}
		s.route(rec, r, route)
	})
}

func (s *Server) setHeaders(h http.Header) {
	h.Set("Server", strings.TrimSuffix("peer/"+s.cfg.Version, "/"))
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", contentPolicy)
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
}

// admit returns why a request is refused before it reaches its route, or nil.
func (s *Server) admit(w *recorder, r *http.Request, local bool) *api.Problem {
	if p := limitBody(w, r); p != nil {
		return p
	}
	if local {
		return nil
	}
	if p := s.checkHost(r); p != nil {
		return p
	}
	if p := s.checkOrigin(r); p != nil {
		return p
	}
	if p := s.checkToken(w, r); p != nil {
		return p
	}
	return checkType(r)
}

// limitBody bounds a body in size and time before anything reads it.
func limitBody(w *recorder, r *http.Request) *api.Problem {
	if r.ContentLength == 0 {
		return nil
	}
	// Also for what net/http reads of a body that the route leaves alone.
	// Errors here mean a connection that cannot time out; there are none.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
	switch {
	case safe(r.Method):
		w.Header().Set("Connection", "close")
		return api.NewProblem(http.StatusBadRequest, api.KindBadRequest,
			fmt.Sprintf("a %s request has no body here", r.Method), "send parameters in the query")
	case r.ContentLength > maxBody:
		w.Header().Set("Connection", "close")
		return tooLarge()
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	return nil
}

func tooLarge() *api.Problem {
	return api.NewProblem(http.StatusRequestEntityTooLarge, "body-too-large",
		fmt.Sprintf("the body has more than %d bytes", maxBody), "send less in one request")
}

// checkToken wants the token of everybody but the probes: as a bearer token, or
// as the password of basic authentication, which is what a browser can send for
// the page and its stream.
func (s *Server) checkToken(w http.ResponseWriter, r *http.Request) *api.Problem {
	if len(s.cfg.Token) == 0 || r.URL.Path == "/livez" || r.URL.Path == "/readyz" {
		return nil
	}
	given := ""
	scheme, rest, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") {
		given = strings.TrimSpace(rest)
	} else if _, password, ok := r.BasicAuth(); ok {
		given = password
	} else if h := s.cfg.TokenHeader; h != "" {
		given = r.Header.Get(h)
	}
	// Hashed first, so that not even the length shows in the time it takes.
	want, got := sha256.Sum256(s.cfg.Token), sha256.Sum256([]byte(given))
	if given != "" && subtle.ConstantTimeCompare(want[:], got[:]) == 1 {
		return nil
	}
	w.Header().Add("WWW-Authenticate", `Bearer realm="peer"`)
	w.Header().Add("WWW-Authenticate", `Basic realm="peer (any user, the token as password)", charset="UTF-8"`)
	detail := "the request carries no token"
	if given != "" {
		detail = "the request carries another token than the agent's"
	}
	return api.NewProblem(http.StatusUnauthorized, api.KindUnauthorized, detail,
		"send Authorization: Bearer TOKEN with the token in the agent's http.token_file, or use its unix socket")
}

// checkType wants writes over TCP to be JSON, which no HTML form can send.
func checkType(r *http.Request) *api.Problem {
	if safe(r.Method) {
		return nil
	}
	mt, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err == nil && mt == "application/json" && (params["charset"] == "" || strings.EqualFold(params["charset"], "utf-8")) {
		return nil
	}
	return api.NewProblem(http.StatusUnsupportedMediaType, "not-json",
		fmt.Sprintf("a %s request must have the content type application/json, this one has %q", r.Method, r.Header.Get("Content-Type")),
		"send the header Content-Type: application/json, also with an empty body")
}

// recoverPanic answers a panicking route with a number that is in the log.
func (s *Server) recoverPanic(w *recorder, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(http.ErrAbortHandler)
	}
	n := s.lastPanic.Add(1)
	s.log.Error("http route panics", "panic", n, "method", r.Method, "path", r.URL.Path, "err", v, "stack", string(debug.Stack()))
	if w.status != 0 {
		panic(http.ErrAbortHandler) // half an answer is out: the client must see that it broke
	}
	writeProblem(w, r, api.NewProblem(http.StatusInternalServerError, api.KindInternal,
		fmt.Sprintf("the agent stumbled over this request (panic %d in its log)", n), "report it with the agent's log"))
}
