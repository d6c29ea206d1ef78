# One function with the layer, a log group that forgets and a role of its own; used three times by the module above.

variable "name" { type = string }
variable "zip" { type = string }
variable "service_name" { type = string }
variable "architecture" { type = string }
variable "layer_arn" { type = string }
variable "timeout_seconds" { type = number }
variable "log_retention_days" { type = number }
variable "environment" { type = map(string) }

variable "statements" {
  description = "What the function may do besides writing its log: actions and the one resource they are for"
  type        = map(object({ actions = list(string), resource = string }))
}

resource "aws_cloudwatch_log_group" "this" {
  name              = "/aws/lambda/${var.name}"
  retention_in_days = var.log_retention_days
}

resource "aws_iam_role" "this" {
  name_prefix = "${substr(var.name, 0, 37)}-"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "lambda.amazonaws.com" }
    }]
  })
}

resource "aws_iam_role_policy" "this" {
  name = "function"
  role = aws_iam_role.this.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [{
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = "${aws_cloudwatch_log_group.this.arn}:*"
      }],
      [for statement in values(var.statements) : {
        Effect   = "Allow"
        Action   = statement.actions
        Resource = statement.resource
      }],
    )
  })
}

resource "aws_lambda_function" "this" {
  function_name    = var.name
  filename         = var.zip
  source_code_hash = filebase64sha256(var.zip)
  role             = aws_iam_role.this.arn
  runtime          = "provided.al2023"
  handler          = "bootstrap"
  architectures    = [var.architecture]
  memory_size      = 256
  timeout          = var.timeout_seconds
  layers           = [var.layer_arn]

  environment {
    variables = merge({ OTEL_SERVICE_NAME = var.service_name }, var.environment)
  }

  logging_config {
    log_format = "Text"
    log_group  = aws_cloudwatch_log_group.this.name
  }

  # The event source mapping checks the role when it is made.
  depends_on = [aws_iam_role_policy.this]
}

output "arn" { value = aws_lambda_function.this.arn }
output "invoke_arn" { value = aws_lambda_function.this.invoke_arn }
output "name" { value = aws_lambda_function.this.function_name }
