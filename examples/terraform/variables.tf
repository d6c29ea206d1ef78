# The parameters of template.yaml, in snake case; check.py keeps the two in step.

variable "otlp_endpoint" {
  description = "Where the traces go, an OTLP endpoint such as https://collector.example.com:4318"
  type        = string
  validation {
    condition     = can(regex("^https?://[^ ]+$", var.otlp_endpoint))
    error_message = "The endpoint must be an http:// or https:// URL."
  }
}

variable "otlp_protocol" {
  description = "The protocol that the endpoint speaks"
  type        = string
  default     = "http/protobuf"
  validation {
    condition     = contains(["http/protobuf", "grpc"], var.otlp_protocol)
    error_message = "The protocol must be http/protobuf or grpc."
  }
}

variable "headers_secret_arn" {
  description = "ARN of a Secrets Manager secret that holds the header's value as JSON under the header's name; empty for none"
  type        = string
  default     = ""
}

variable "header_name" {
  description = "The header that is sent with the secret's value, for example authorization or x-honeycomb-team"
  type        = string
  default     = "authorization"
}

variable "architecture" {
  description = "The processor of the three functions and their layer"
  type        = string
  default     = "x86_64"
  validation {
    condition     = contains(["x86_64", "arm64"], var.architecture)
    error_message = "The architecture must be x86_64 or arm64."
  }
}

variable "flush_strategy" {
  description = "When spans leave, at the end of every invocation or beside the next one"
  type        = string
  default     = "end"
  validation {
    condition     = contains(["end", "adaptive"], var.flush_strategy)
    error_message = "The strategy must be end or adaptive."
  }
}

variable "max_receive_count" {
  description = "How often an order is tried before it moves to the dead-letter queue"
  type        = number
  default     = 3
}

variable "dead_letter_consumer" {
  description = "Whether the dead-letter queue is consumed; false leaves the orders there, for a redrive"
  type        = bool
  default     = true
}

variable "log_level" {
  description = "The least important log line of the extension"
  type        = string
  default     = "info"
  validation {
    condition     = contains(["trace", "debug", "info", "warn", "error", "off"], var.log_level)
    error_message = "The level must be trace, debug, info, warn, error or off."
  }
}

variable "log_retention_days" {
  description = "Days until the functions' log lines are deleted"
  type        = number
  default     = 14
}

# === Beyond the template: Terraform uploads zips, which SAM makes by itself ===

variable "name" {
  description = "The first part of every name"
  type        = string
  default     = "throughline-orders"
}

variable "layer_zip" {
  description = "The layer for the architecture, made by cargo xtask package"
  type        = string
}

variable "function_zips" {
  description = "The functions' zips, made by cargo lambda build --output-format zip: producer, consumer, dead_letters"
  type        = object({ producer = string, consumer = string, dead_letters = string })
}
