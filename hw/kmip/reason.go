package kmip

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	kmipgo "github.com/ovh/kmip-go"
)

// maxServerText bounds what of a server's own words is repeated, in runes.
const maxServerText = 160

// itemError turns a failed batch item into an Error by its result reason
// (KMIP 1.4, section 9.1.3.2.29).
func itemError(item *kmipgo.ResponseBatchItem) *Error {
	if item.ResultStatus == kmipgo.ResultStatusOperationPending {
		return &Error{Code: CodeUnsupported, Cause: errors.New("the server wants to answer later, which was not asked for")}
	}
	e := &Error{Code: CodeRefused, Cause: errors.New("the server refused: " + reasonName(item.ResultReason) + serverText(item.ResultMessage))}
	switch item.ResultReason {
	default:
		e.Hint = "its log says why"
	case kmipgo.ResultReasonItemNotFound:
		e.Code, e.Hint = CodeNotFound, "register the key on the server, or correct its name"
	case kmipgo.ResultReasonPermissionDenied, kmipgo.ResultReasonAuthenticationNotSuccessful, kmipgo.ResultReasonAttestationRequired,
		kmipgo.ResultReasonAttestationFailed, kmipgo.ResultReasonSensitive, kmipgo.ResultReasonNotExtractable:
		e.Code, e.Hint = CodeDenied, "give this client access to the object on the server"
	case kmipgo.ResultReasonObjectArchived:
		e.Code, e.Hint = CodeState, "recover it from the archive on the server"
	case kmipgo.ResultReasonOperationNotSupported, kmipgo.ResultReasonFeatureNotSupported:
		e.Code, e.Hint = CodeUnsupported, "select by unique id, or use another server"
	case kmipgo.ResultReasonKeyFormatTypeNotSupported, kmipgo.ResultReasonKeyCompressionTypeNotSupported, kmipgo.ResultReasonKeyValueNotPresent,
		kmipgo.ResultReasonEncodingOptionError:
		e.Code, e.Hint = CodeFormat, "register the key as Raw, Opaque or TransparentSymmetricKey"
	case kmipgo.ResultReasonGeneralFailure, kmipgo.ResultReasonCryptographicFailure, kmipgo.ResultReasonResponseTooLarge:
		e.Retryable, e.Hint = true, "its log says why"
	}
	return e
}

func reasonName(r kmipgo.ResultReason) string {
	names := map[kmipgo.ResultReason]string{
		kmipgo.ResultReasonItemNotFound:                     "item not found",
		kmipgo.ResultReasonResponseTooLarge:                 "response too large",
		kmipgo.ResultReasonAuthenticationNotSuccessful:      "authentication not successful",
		kmipgo.ResultReasonInvalidMessage:                   "invalid message",
		kmipgo.ResultReasonOperationNotSupported:            "operation not supported",
		kmipgo.ResultReasonMissingData:                      "missing data",
		kmipgo.ResultReasonInvalidField:                     "invalid field",
		kmipgo.ResultReasonFeatureNotSupported:              "feature not supported",
		kmipgo.ResultReasonOperationCanceledByRequester:     "operation cancelled",
		kmipgo.ResultReasonCryptographicFailure:             "cryptographic failure",
		kmipgo.ResultReasonIllegalOperation:                 "illegal operation",
		kmipgo.ResultReasonPermissionDenied:                 "permission denied",
		kmipgo.ResultReasonObjectArchived:                   "object archived",
		kmipgo.ResultReasonIndexOutofBounds:                 "index out of bounds",
		kmipgo.ResultReasonApplicationNamespaceNotSupported: "application namespace not supported",
		kmipgo.ResultReasonKeyFormatTypeNotSupported:        "key format type not supported",
		kmipgo.ResultReasonKeyCompressionTypeNotSupported:   "key compression type not supported",
		kmipgo.ResultReasonEncodingOptionError:              "encoding option error",
		kmipgo.ResultReasonKeyValueNotPresent:               "key value not present",
		kmipgo.ResultReasonAttestationRequired:              "attestation required",
		kmipgo.ResultReasonAttestationFailed:                "attestation failed",
		kmipgo.ResultReasonSensitive:                        "sensitive",
		kmipgo.ResultReasonNotExtractable:                   "not extractable",
		kmipgo.ResultReasonGeneralFailure:                   "general failure",
	}
	if n, ok := names[r]; ok {
		return n
	}
	return fmt.Sprintf("reason %08X", uint32(r))
}

// serverText makes a server's words safe for a console and short.
func serverText(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	s = strings.Join(strings.Fields(s), " ")
	if s == "" {
		return ""
	}
	if r := []rune(s); len(r) > maxServerText {
		s = string(r[:maxServerText]) + "…"
	}
	return fmt.Sprintf(" (%q)", s)
}
