// SPDX-License-Identifier: Apache-2.0

package teephttp

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"sealift/teep"
)

// TAM is the protocol engine behind a TAM URI. hint is the path element after the mount point, empty for the URI itself; it
// tells which deployment the Broker means, and is no proof of anything. A nil message without error ends the session: the
// engine gives it also for messages it does not believe, so that a stranger learns nothing from the answer.
// Implementations MUST be safe for concurrent use.
type TAM interface {
	// Connect gives the first message of a session (the draft's ProcessConnect).
	Connect(ctx context.Context, hint string) ([]byte, error)
	// Message handles a message of an Agent and gives the answer (the draft's ProcessTeepMessage).
	Message(ctx context.Context, hint string, msg []byte) ([]byte, error)
}

// Options are the server's choices; the zero value is fit for use.
type Options struct {
	// Prefix is the mount point, such as "/tam", where it was not stripped from the path before.
	Prefix string
	// MaxBody bounds what an Agent may send; 0 means DefaultMaxRequest.
	MaxBody int64
	// Logger takes failures of the engine; nil means none. Messages are never logged.
	Logger *slog.Logger
}

const maxHint = 256

// Handler serves a TAM URI. Responses with content have the headers that the draft's section 5.2 demands; others have no body.
//
//	405 other methods than POST        413 body beyond MaxBody
//	406 Accept excludes TEEP messages  415 body of another type
//	404 ErrNotFound or a longer path   503 ErrUnavailable, 500 any other error
func Handler(t TAM, o Options) http.Handler {
	if o.MaxBody <= 0 {
		o.MaxBody = DefaultMaxRequest
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &handler{t, o}
}

type handler struct {
	tam TAM
	o   Options
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	hint, ok := h.hint(r.URL.Path)
	switch {
	case !ok:
		status(w, http.StatusNotFound)
		return
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		status(w, http.StatusMethodNotAllowed)
		return
	case !accepts(r.Header.Values("Accept")):
		status(w, http.StatusNotAcceptable)
		return
	}
	msg, code := h.body(w, r)
	if code != 0 {
		status(w, code)
		return
	}
	var answer []byte
	var err error
	if len(msg) == 0 {
		answer, err = h.tam.Connect(r.Context(), hint)
	} else {
		answer, err = h.tam.Message(r.Context(), hint, msg)
	}
	if err != nil {
		h.fail(w, r, hint, err)
		return
	}
	reply(w, answer)
}

// hint gives the path element behind the mount point; there must not be more of them.
func (h *handler) hint(path string) (string, bool) {
	rest, ok := strings.CutPrefix(path, strings.TrimSuffix(h.o.Prefix, "/"))
	if !ok || (rest != "" && rest[0] != '/') {
		return "", false
	}
	hint := strings.TrimPrefix(rest, "/")
	return hint, len(hint) <= maxHint && !strings.Contains(hint, "/")
}

// body reads the request's message, or gives the status of the refusal. An empty body needs no Content-Type: the draft's own
// first request has none.
func (h *handler) body(w http.ResponseWriter, r *http.Request) ([]byte, int) {
	if r.ContentLength > h.o.MaxBody {
		return nil, http.StatusRequestEntityTooLarge
	}
	contentType := r.Header.Get("Content-Type")
	if contentType != "" && r.ContentLength != 0 && !isTEEP(contentType) {
		return nil, http.StatusUnsupportedMediaType
	}
	msg, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.o.MaxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, http.StatusRequestEntityTooLarge
	case err != nil:
		return nil, http.StatusBadRequest
	case len(msg) == 0:
		return nil, 0
	case !isTEEP(contentType) || r.Header.Get("Content-Encoding") != "":
		return nil, http.StatusUnsupportedMediaType
	}
	return msg, 0
}

func (h *handler) fail(w http.ResponseWriter, r *http.Request, hint string, err error) {
	code := http.StatusInternalServerError
	switch {
	case errors.Is(err, ErrNotFound):
		code = http.StatusNotFound
	case errors.Is(err, ErrUnavailable):
		code = http.StatusServiceUnavailable
	}
	h.o.Logger.WarnContext(r.Context(), "TEEP request failed", "hint", hint, "status", code, "error", err)
	status(w, code)
}

// status ends a response without content.
func status(w http.ResponseWriter, code int) {
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(code)
}

// reply sends the TAM's message, or ends the session with 204.
func reply(w http.ResponseWriter, msg []byte) {
	if len(msg) == 0 {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	header := w.Header()
	header.Set("Content-Type", teep.MediaType)
	header.Set("Content-Length", strconv.Itoa(len(msg)))
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Security-Policy", "default-src 'none'")
	header.Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(msg) // a broken connection is the client's to notice
}
